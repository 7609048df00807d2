"""What the points of one family, or of one device, have in common."""

import re

from attrs import frozen

from stator.points import LabelPairs, MetricType, Point


@frozen
class Family:
    """A family of the host: a `Point` without value and labels."""

    name: str
    desc: str
    unit: str = ""
    type: MetricType = "gauge"

    def at(self, value: float, labels: LabelPairs = ()) -> Point:
        """Returns one of its points."""
        return Point(self.name, self.desc, value, type=self.type, unit=self.unit, labels=labels)


def device_labels(device: bytes, excluded: re.Pattern[str]) -> LabelPairs | None:
    """Returns the labels of a device's points; None where it is left out."""
    name = device.decode(errors="backslashreplace")
    return None if excluded.search(name) else (("device", name),)
