"""A source's points as columns, since long lists are quicker to go through than many points."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from attrs import frozen

from stator.points import Labels, MetricType, Point, PointError, family_name

# Points that are gone through at a time, and lines that are written by one operation: enough to spread its cost, few
# enough that other threads get their turn, and that a million points need no second million of anything.
CHUNK = 4096


@frozen
class Columns:
    """A source's points, each of their parts in a list of its own."""

    name: str
    common: Labels
    names: list[str]
    descs: list[str]
    units: list[str]
    types: list[MetricType]
    labels: list[Labels]
    values: list[Any]

    @classmethod
    def of(cls, name: str, common: Labels, points: Sequence[Any]) -> "Columns":
        """The columns of points, out of their common name and labels, and themselves.

        Raises:
            PointError: Something among them is no Point.
        """
        try:
            return cls(
                name,
                common,
                [each.name for each in points],
                [each.desc for each in points],
                [each.unit for each in points],
                [each.type for each in points],
                [each.labels for each in points],
                [each.value for each in points],
            )
        except AttributeError as error:
            stranger = next(each for each in points if not isinstance(each, Point))
            msg = f"{name}: {stranger!r} is no Point"
            raise PointError(msg) from error

    def family(self, index: int) -> tuple[str, str]:
        """Name of a point's family, and of its samples where they have no further suffix.

        Where there is no common name, the point's own is whole, and gets no suffix.
        """
        type_ = self.types[index]
        suffix = {"counter": "_total", "info": "_info"}.get(type_, "")
        name = family_name(self.name, self.names[index], self.units[index])
        family = name.removesuffix(suffix)
        return family, family + suffix if self.name else name

    def told(self, index: int) -> str:
        """How a message names a point."""
        own: Any = self.labels[index]
        labels = [*self.common, *own] if isinstance(own, tuple) and isinstance(self.common, tuple) else own
        return f"{family_name(self.name, self.names[index], self.units[index])} {labels}"


@frozen
class SeriesKeys:
    """All of a source's points but their values, to compare those of another time with.

    Attributes:
        name: Their common name.
        common: Their common labels.
        count: How many they are.
        chunks: Their own names, descriptions, units, types and labels; `CHUNK` of each.
    """

    name: str
    common: Labels
    count: int
    chunks: tuple[tuple[list[str], list[str], list[str], list[MetricType], list[Labels]], ...]

    @classmethod
    def of(cls, columns: Columns) -> "SeriesKeys":
        """The heads of points."""
        parts = (slice(at, at + CHUNK) for at in range(0, len(columns.names), CHUNK))
        chunks = tuple(
            (columns.names[part], columns.descs[part], columns.units[part], columns.types[part], columns.labels[part])
            for part in parts
        )
        return cls(columns.name, columns.common, len(columns.names), chunks)

    def values_of(self, name: str, common: Labels, points: Sequence[Any]) -> list[Any] | None:
        """The values of points whose heads are these; None where they are not.

        Raises:
            AttributeError: Something among them is no Point.
        """
        if (name, common, len(points)) != (self.name, self.common, self.count):
            return None
        values: list[Any] = []
        for nth, (names, descs, units, types, labels) in enumerate(self.chunks):
            some = points[nth * CHUNK : (nth + 1) * CHUNK]
            # Quick, since mostly they are the same objects.
            is_same = (
                [each.labels for each in some] == labels
                and [each.name for each in some] == names
                and [each.type for each in some] == types
                and [each.unit for each in some] == units
                and [each.desc for each in some] == descs
            )
            if not is_same:
                return None
            values += [each.value for each in some]
        return values

    def columns(self, values: list[Any]) -> Columns:
        """The points with these values."""
        names, descs, units, types, labels = (
            (list(chain.from_iterable(column)) for column in zip(*self.chunks, strict=True))
            if self.chunks
            else ([], [], [], [], [])
        )
        return Columns(self.name, self.common, names, descs, units, types, labels, values)


def same_label_names(labels: Sequence[Labels], flat: list[str], first: list[str]) -> bool:
    """Whether all labels have the names of the first, in its order.

    Args:
        labels: The labels.
        flat: All their names and values in a row.
        first: The names of the first.
    """
    return flat[0::2] == first * len(labels) and list(map(len, labels)).count(len(first)) == len(labels)


def uniform(column: list[Any]) -> bool:
    """Whether all of a column is the same."""
    return column.count(column[0]) == len(column) if column else True


def at(column: list[Any], points: Sequence[int]) -> list[Any]:
    """What a column has at these positions, which are ascending."""
    return column if len(points) == len(column) else [column[position] for position in points]
