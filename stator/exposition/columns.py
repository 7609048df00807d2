"""A source's points as columns: one list per attribute, which is compared and joined faster than points one by one."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from stator.exposition import escaping
from stator.points import LabelPairs, Labels, MetricType, Point, PointError, family_name

# The number of points that one operation handles: enough to spread its cost, few enough that other threads get their
# turn and that no second copy of a million points is needed.
CHUNK = 4096

Series: TypeAlias = frozenset[tuple[str, str]]


@frozen(eq=False)
class SeriesKeys:
    """All that a source's points have but their values: what stays the same from one scrape to the next.

    Attributes:
        name: The points' common name.
        common: The points' common labels.
        names: Each point's own name; likewise the lists that follow.
    """

    name: str
    common: LabelPairs
    names: list[str]
    descs: list[str]
    units: list[str]
    types: list[MetricType]
    labels: list[LabelPairs]

    @classmethod
    def of(cls, name: str, common: LabelPairs, points: Sequence[Any]) -> "SeriesKeys":
        """The keys of these points.

        Raises:
            PointError: One of them is not a Point.
        """
        if stranger := [each for each in points if not isinstance(each, Point)]:
            msg = f"{name}: {safe_repr(stranger[0])} is not a Point"
            raise PointError(msg)
        return cls(
            name,
            common,
            [each.name for each in points],
            [each.desc for each in points],
            [each.unit for each in points],
            [each.type for each in points],
            [label_pairs(each.labels) for each in points],
        )

    def values_of(self, name: str, common: LabelPairs, points: Sequence[Any]) -> list[Any] | None:
        """The values of these points; None if they have other keys.

        Raises:
            AttributeError: One of them is not a Point.
        """
        if (name, common, len(points)) != (self.name, self.common, len(self.names)):
            return None
        labels = [each.labels for each in points]
        # Quick, since mostly they are the same objects; mappings never equal the pairs that are kept.
        is_same = (
            (labels == self.labels or [*map(label_pairs, labels)] == self.labels)
            and [each.name for each in points] == self.names
            and [each.type for each in points] == self.types
            and [each.unit for each in points] == self.units
            and [each.desc for each in points] == self.descs
        )
        return [each.value for each in points] if is_same else None

    def families(self) -> list[Sequence[int]]:
        """The positions of each family's points, in the order of the families' first points."""
        if all_equal(self.names) and all_equal(self.units):
            return [range(len(self.names))] if self.names else []
        families: dict[tuple[str, str], list[int]] = {}
        for position, key in enumerate(zip(self.names, self.units, strict=True)):
            families.setdefault(key, []).append(position)
        return list(families.values())

    def family(self, position: int) -> tuple[str, str]:
        """The name of a point's family, and that of its samples without a suffix such as `_bucket`.

        Where there is no common name, samples have the point's own name as it is.
        """
        suffix = {"counter": "_total", "info": "_info"}.get(self.types[position], "")
        name = family_name(self.name, self.names[position], self.units[position])
        family = name.removesuffix(suffix)
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
    """Whether all of a column is the same."""
    return column.count(column[0]) == len(column) if column else True


def take(column: list[Any], positions: Sequence[int]) -> list[Any]:
    """A column's items at these positions, which ascend."""
    return column if len(positions) == len(column) else [column[position] for position in positions]
