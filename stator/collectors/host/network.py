"""What goes through network devices: node_exporter's group ``netdev``."""

import re
from collections.abc import Iterator
from contextlib import suppress

from stator.collectors.host.family import Family, device_labels
from stator.collectors.host.files import Files
from stator.points import Point

RECEIVED = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
SENT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")
# Lines of /proc/net/dev before those of devices.
HEADER = 2


def _family(direction: str, column: str) -> Family:
    name, unit = (direction, "bytes") if column == "bytes" else (f"{direction}_{column}", "")
    return Family(f"network_{name}", f"{column} in the {direction} columns of /proc/net/dev", unit, "counter")


# In the order of /proc/net/dev: https://docs.kernel.org/networking/statistics.html.
FAMILIES = (*(_family("receive", each) for each in RECEIVED), *(_family("transmit", each) for each in SENT))
UNHANDLED = Family("network_receive_nohandler", "Packets that came on a device that takes none", "", "counter")


def netdev(excluded: re.Pattern[str], files: Files, _now: float) -> Iterator[Point]:
    """Yields the counts of all devices, without those whose names match a pattern."""
    for line in files.proc("net/dev").split(b"\n")[HEADER:]:
        # The name of an alias contains colons.
        name, colon, counts = line.rpartition(b":")
        if colon and (labels := device_labels(name.strip(), excluded)):
            for family, count in zip(FAMILIES, counts.split(), strict=False):
                yield family.at(int(count), labels)
            with suppress(OSError):  # it has been removed since, or is an alias
                path = f"class/net/{labels[0][1]}/statistics/rx_nohandler"
                yield UNHANDLED.at(int(files.sys(path)), labels)
