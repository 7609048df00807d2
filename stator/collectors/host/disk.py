"""What disks do and what they are: node_exporter's group ``diskstats``.

https://docs.kernel.org/admin-guide/iostats.html
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat

from attrs import frozen

from stator.collectors.host.family import Family, device_labels
from stator.collectors.host.files import Files
from stator.points import LabelPairs, MetricType, Point

# Bytes of a sector in /proc/diskstats, whatever the device's own size is.
SECTOR = 512


@frozen
class Column:
    """A column of /proc/diskstats: its family, and how its numbers convert to the family's unit."""

    family: Family
    factor: int = 1
    divisor: int = 1


def _count(name: str, desc: str, type_: MetricType = "counter") -> Column:
    return Column(Family(f"disk_{name}", desc, "", type_))


def _bytes(name: str, desc: str) -> Column:
    return Column(Family(f"disk_{name}", desc, "bytes", "counter"), factor=SECTOR)


def _time(name: str, desc: str) -> Column:
    return Column(Family(f"disk_{name}", desc, "seconds", "counter"), divisor=1000)


# In the order of /proc/diskstats; older kernels have fewer.
COLUMNS = (
    _count("reads_completed", "Reads that were completed"),
    _count("reads_merged", "Reads that were merged with others"),
    _bytes("read", "Data that was read"),
    _time("read_time", "Time that reads took"),
    _count("writes_completed", "Writes that were completed"),
    _count("writes_merged", "Writes that were merged with others"),
    _bytes("written", "Data that was written"),
    _time("write_time", "Time that writes took"),
    _count("io_now", "Requests in progress", "gauge"),
    _time("io_time", "Time in which there was something to do"),
    _time("io_time_weighted", "Time that all requests took together"),
    _count("discards_completed", "Discards that were completed"),
    _count("discards_merged", "Discards that were merged with others"),
    _count("discarded_sectors", "Sectors that were discarded"),
    _time("discard_time", "Time that discards took"),
    _count("flush_requests", "Flushes that were completed"),
    _time("flush_requests_time", "Time that flushes took"),
)

INFO = Family("disk_info", "What a disk is", "", "gauge")
FILESYSTEM = Family("disk_filesystem_info", "Filesystem on a disk", "", "gauge")
MAPPER = Family("disk_device_mapper_info", "What a mapped device is", "", "gauge")
ATA = {
    "ID_ATA_WRITE_CACHE": Family("disk_ata_write_cache", "Whether an ATA disk has a write cache", "", "gauge"),
    "ID_ATA_WRITE_CACHE_ENABLED": Family("disk_ata_write_cache_enabled", "Whether it is in use", "", "gauge"),
    "ID_ATA_ROTATION_RATE_RPM": Family("disk_ata_rotation_rate_rpm", "Turns a minute; 0: it has no disk", "", "gauge"),
}
# Of these properties the first that is there is the serial number.
SERIALS = ("SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL")


class Diskstats:
    """Reads what devices do from /proc/diskstats, and what they are from udev and /sys/block.

    Args:
        excluded: Pattern of the names of devices that are left out.
        udev: Folder of udev's database.
    """

    def __init__(self, excluded: re.Pattern[str] | None, udev: str) -> None:
        self._excluded, self._udev = excluded, udev
        # By each device of the last scrape; None for those that are left out.
        self._devices: dict[bytes, LabelPairs | None] = {}
        # By each device of the last scrape: what the points about it were made from, and these points.
        self._about: dict[LabelPairs, tuple[tuple[bytes, ...], list[Point]]] = {}

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns all points of the group.

        Raises:
            OSError: /proc/diskstats can't be read.
            ValueError: It has something else in place of a number.
        """
        points: list[Point] = []
        devices, about = self._devices, self._about
        self._devices, self._about = {}, {}
        for line in files.proc("diskstats").splitlines():
            major, minor, name, *numbers = line.split()
            labels = self._devices[name] = devices[name] if name in devices else device_labels(name, self._excluded)
            if labels is None:
                continue
            source = (major, minor, *self._describe(files, f"{major.decode()}:{minor.decode()}", labels))
            last = about.get(labels)
            self._about[labels] = last if last and last[0] == source else (source, list(_about(labels, *source)))
            points += self._about[labels][1]
            points += map(_point, COLUMNS, numbers, repeat(labels))
        return points

    def _describe(self, files: Files, number: str, labels: LabelPairs) -> tuple[bytes, bytes]:
        """Returns a device's properties in udev, and whether it rotates."""
        ((_, name),) = labels
        try:
            properties = files.read(f"{self._udev}/b{number}")
        except OSError:  # there need be no udev
            properties = b""
        queue = f"block/{name.replace('/', '!')}/queue"
        # Like node_exporter, don't trust the kernel on disks whose requests have no time limit: virtual or mapped ones.
        try:
            rotational = files.sys(f"{queue}/rotational") if files.has(f"{queue}/io_timeout") else b"0"
        except OSError:  # it has been removed since
            rotational = b"0"
        return properties, rotational


def _point(column: Column, number: bytes, labels: LabelPairs) -> Point:
    value = int(number) * column.factor
    return column.family.at(value / column.divisor if column.divisor > 1 else value, labels)


def _about(device: LabelPairs, major: bytes, minor: bytes, properties: bytes, rotational: bytes) -> Iterator[Point]:
    """Yields the points about what a disk is, from the kernel's and udev's files."""
    lines = properties.decode(errors="backslashreplace").splitlines()
    # https://www.freedesktop.org/software/systemd/man/latest/udevadm.html: E: is a property
    known = dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)
    numbers = {"major": major.decode(), "minor": minor.decode(), "rotational": rotational.decode().strip()}
    names = {key: known.get(f"ID_{key.upper()}", "") for key in ("path", "wwn", "model", "revision")}
    serial = next(filter(None, map(known.get, SERIALS)), "")
    yield INFO.at(1, (*device, *numbers.items(), *names.items(), ("serial", serial)))
    if known.get("ID_FS_TYPE"):
        own = {key: known.get(f"ID_FS_{key.upper()}", "") for key in ("type", "usage", "uuid", "version")}
        yield FILESYSTEM.at(1, (*device, *own.items()))
    if known.get("DM_NAME"):
        keys = ("name", "uuid", "vg_name", "lv_name", "lv_layer")
        own = {key: known.get(f"DM_{key.upper()}", "") for key in keys}
        yield MAPPER.at(1, (*device, *own.items()))
    if known.get("ID_ATA"):
        for key, family in ATA.items():
            with suppress(KeyError, ValueError):  # unknown, or no number
                yield family.at(float(known[key]), device)
