"""A source's points as columns, since long lists are quicker to go through than many points."""

from typing import Any

from attrs import frozen

from stator.entity import Labels, Point, PointError, PointsAt, Type, family_name


@frozen
class Columns:
    """A source's points, each of their parts in a list of its own."""

    name: str
    common: Labels
    names: list[str]
    descs: list[str]
    units: list[str]
    types: list[Type]
    labels: list[Labels]
    values: list[Any]

    @classmethod
    def of(cls, points_at: PointsAt) -> "Columns":
        """The columns of points.

        Raises:
            PointError: Something among them is no Point.
        """
        points: list[Any] = list(points_at.points)
        try:
            return cls(
                points_at.name,
                points_at.labels,
                [each.name for each in points],
                [each.desc for each in points],
                [each.unit for each in points],
                [each.type for each in points],
                [each.labels for each in points],
                [each.value for each in points],
            )
        except AttributeError as error:
            stranger = next(each for each in points if not isinstance(each, Point))
            msg = f"{points_at.name}: {stranger!r} is no Point"
            raise PointError(msg) from error

    def has_heads_of(self, other: "Columns") -> bool:
        """Whether all but the values is the same; quick, since mostly they are the same objects."""
        return (
            self.labels == other.labels
            and self.names == other.names
            and self.types == other.types
            and self.units == other.units
            and self.descs == other.descs
            and (self.name, self.common) == (other.name, other.common)
        )

    def told(self, index: int) -> str:
        """How a message names a point."""
        own: Any = self.labels[index]
        labels = [*self.common, *own] if isinstance(own, tuple) and isinstance(self.common, tuple) else own
        return f"{family_name(self.name, self.names[index], self.units[index])} {labels}"
