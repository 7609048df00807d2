"""What goes through network devices: node_exporter's group ``netdev``.

https://docs.kernel.org/networking/statistics.html
"""

import re
from collections.abc import Iterator
from contextlib import suppress

from stator.collectors.host.family import Family, device_labels
from stator.collectors.host.files import Files
from stator.points import LabelPairs, Point

RECEIVED = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
SENT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")
# Lines of /proc/net/dev before those of devices.
HEADER = 2


def _family(direction: str, column: str) -> Family:
    name, unit = (direction, "bytes") if column == "bytes" else (f"{direction}_{column}", "")
    return Family(f"network_{name}", f"{column} in the {direction} columns of /proc/net/dev", unit, "counter")


# In the order of /proc/net/dev.
FAMILIES = tuple(
    _family(direction, column)
    for direction, columns in (("receive", RECEIVED), ("transmit", SENT))
    for column in columns
)
UNHANDLED = Family("network_receive_nohandler", "Packets that came on a device that takes none", "", "counter")


class Netdev:
    """Reads /proc/net/dev, and what only /sys/class/net has.

    Args:
        excluded: Pattern of the names of devices that are left out.
    """

    def __init__(self, excluded: re.Pattern[str] | None) -> None:
        self._excluded = excluded
        # By each device of the last scrape; None for those that are left out.
        self._labels: dict[bytes, LabelPairs | None] = {}

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns all points of the group.

        Raises:
            OSError: /proc/net/dev can't be read.
            ValueError: A count is no number.
        """
        points: list[Point] = []
        known, self._labels = self._labels, {}
        for line in files.proc("net/dev").split(b"\n")[HEADER:]:
            # The name of an alias contains colons.
            name, colon, counts = line.rpartition(b":")
            if not colon:
                continue
            device = name.strip()
            labels = self._labels[device] = known[device] if device in known else device_labels(device, self._excluded)
            if labels is not None:
                points += [
                    family.at(int(count), labels) for family, count in zip(FAMILIES, counts.split(), strict=False)
                ]
                points += _unhandled(files, labels)
        return points


def _unhandled(files: Files, labels: LabelPairs) -> Iterator[Point]:
    ((_, device),) = labels
    with suppress(OSError):  # it has been removed since, or is an alias
        yield UNHANDLED.at(int(files.sys(f"class/net/{device}/statistics/rx_nohandler")), labels)
