"""What all points of one family have in common."""

from attrs import frozen

from stator.entity import Labels, Point, Type


@frozen
class Family:
    """A family of the host's: a `Point` without value and labels."""

    name: str
    desc: str
    unit: str
    type: Type

    def at(self, value: float, labels: Labels = ()) -> Point:
        """One of its points."""
        return Point(self.name, self.desc, self.unit, self.type, value, labels)
