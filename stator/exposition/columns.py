"""A source's points as columns: one list per attribute, which is compared and joined faster than points one by one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from stator.exposition import escaping
from stator.points import LabelPairs, Labels, MetricType, Point, PointError, family_name

# Points that one operation handles: enough to spread its cost, few enough for other threads and for the memory.
CHUNK = 4096

Series: TypeAlias = frozenset[tuple[str, str]]


@frozen(eq=False, repr=False)
class SeriesKeys:
    """All that a source's points have but their values: what stays the same from one scrape to the next."""

    name: str
    common: LabelPairs
    names: list[str]
    units: list[str]
    types: list[MetricType]
    labels: list[LabelPairs]
    # The positions of each family's points, and its description, in the order of the families' first points.
    families: list[Sequence[int]]
    descs: list[str]

    @classmethod
    def of(cls, name: str, common: LabelPairs, points: Sequence[Any]) -> "SeriesKeys":
        """The keys of these points; raises a `PointError` if one is not a Point."""
        if strangers := [each for each in points if not isinstance(each, Point)]:
            msg = f"{name and f'{name}: '}{safe_repr(strangers[0])} is not a Point"
            raise PointError(msg)
        names, units = [each.name for each in points], [each.unit for each in points]
        types, labels = [each.type for each in points], [label_pairs(each.labels) for each in points]
        families = _families(names, units)
        return cls(name, common, names, units, types, labels, families, _descs(points, families))

    def values_of(self, name: str, common: LabelPairs, points: Sequence[Any]) -> list[Any] | None:
        """The values of these points; None if they have other keys."""
        is_same = (name, common, len(points)) == (self.name, self.common, len(self.names))
        if not is_same or _descs(points, self.families) != self.descs:
            return None
        values: list[Any] = []
        for start in range(0, len(points), CHUNK):
            some, chunk = points[start : start + CHUNK], slice(start, start + CHUNK)
            labels, kept = [each.labels for each in some], self.labels[chunk]
            # Quick, since mostly they are the same objects; mappings never equal the pairs that are kept.
            if labels != kept and [*map(label_pairs, labels)] != kept:
                return None
            if len(self.families) == 1:  # a quarter faster than columns
                own, type_, unit = self.names[0], self.types[0], self.units[0]
                values += [each.value for each in some if each.name == own and each.type == type_ and each.unit == unit]
            elif (
                [each.name for each in some] == self.names[chunk]
                and [each.type for each in some] == self.types[chunk]
                and [each.unit for each in some] == self.units[chunk]
            ):
                values += [each.value for each in some]
        return values if len(values) == len(points) else None

    def family(self, position: int) -> tuple[str, str]:
        """The name of a point's family, and that of its samples without a suffix such as `_bucket`."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.types[position], "")
        name = family_name(self.name, self.names[position], self.units[position])
        family = name.removesuffix(suffix)
        # Where there is no common name, samples have the point's own name as it is.
        return family, family + suffix if self.name else name

    def series(self, position: int, *, utf8: bool) -> Series:
        """A point's labels as they are written, in any order; no two series of one name may have the same."""
        labels = (*self.common, *self.labels[position])
        # An empty label is the same as none.
        return frozenset((escaping.label(name, utf8=utf8), value) for name, value in labels if value)

    def describe(self, position: int) -> str:
        """A point's name for messages: ``jobs{queue="mail"}``."""
        name = family_name(self.name, self.names[position], self.units[position])
        try:
            text = ",".join(f"{key}={_quoted(value)}" for key, value in (*self.common, *self.labels[position]))
        except (TypeError, ValueError):  # not pairs
            text = ""
        # A surrogate can't be logged.
        return (f"{name}{{{text}}}" if text else name).encode(errors="backslashreplace").decode()


def _families(names: list[str], units: list[str]) -> list[Sequence[int]]:
    if names and all_equal(names) and all_equal(units):
        return [range(len(names))]
    families: dict[tuple[str, str], list[int]] = {}
    for position, key in enumerate(zip(names, units, strict=True)):
        families.setdefault(key, []).append(position)
    return list(families.values())


def _descs(points: Sequence[Any], families: list[Sequence[int]]) -> list[str]:
    return [points[positions[0]].desc for positions in families]


def label_pairs(labels: Labels) -> LabelPairs:
    """Labels as pairs; a value that is neither pairs nor a mapping is returned as it is, and validation refuses it."""
    if type(labels) is tuple:
        return labels
    return tuple(labels.items()) if isinstance(labels, Mapping) else labels


def _quoted(value: object) -> str:
    return escaping.quoted(value) if type(value) is str else safe_repr(value)


def safe_repr(value: object) -> str:
    """The repr of any value, or its type where it has none."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 # anybody's, or an integer of thousands of digits
        return f"a value of the type {type(value).__name__}"


def all_equal(column: list[Any]) -> bool:
    """Whether all of a column, which is not empty, is the same."""
    return column.count(column[0]) == len(column)


def take(column: list[Any], positions: Sequence[int]) -> list[Any]:
    """A column's items at these positions, which ascend."""
    return column if len(positions) == len(column) else [column[position] for position in positions]
