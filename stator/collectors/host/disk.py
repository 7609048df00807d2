"""What disks do and what they are: node_exporter's group ``diskstats``."""

import re
from collections.abc import Iterator
from contextlib import suppress

from attrs import frozen

from stator.collectors.host.family import Family, device_labels
from stator.collectors.host.files import Files
from stator.points import LabelPairs, MetricType, Point

# Bytes of a sector in /proc/diskstats, whatever the device's own size is.
SECTOR = 512


def _column(name: str, desc: str, unit: str = "", type_: MetricType = "counter") -> Family:
    return Family(f"disk_{name}", desc, unit, type_)


# In the order of https://docs.kernel.org/admin-guide/iostats.html; older kernels have fewer.
COLUMNS = (
    _column("reads_completed", "Reads that were completed"),
    _column("reads_merged", "Reads that were merged with others"),
    _column("read", "Data that was read", "bytes"),
    _column("read_time", "Time that reads took", "seconds"),
    _column("writes_completed", "Writes that were completed"),
    _column("writes_merged", "Writes that were merged with others"),
    _column("written", "Data that was written", "bytes"),
    _column("write_time", "Time that writes took", "seconds"),
    _column("io_now", "Requests in progress", type_="gauge"),
    _column("io_time", "Time in which there was something to do", "seconds"),
    _column("io_time_weighted", "Time that all requests took together", "seconds"),
    _column("discards_completed", "Discards that were completed"),
    _column("discards_merged", "Discards that were merged with others"),
    _column("discarded_sectors", "Sectors that were discarded"),
    _column("discard_time", "Time that discards took", "seconds"),
    _column("flush_requests", "Flushes that were completed"),
    _column("flush_requests_time", "Time that flushes took", "seconds"),
)

INFO = Family("disk_info", "What a disk is")
FILESYSTEM = Family("disk_filesystem_info", "Filesystem on a disk")
MAPPER = Family("disk_device_mapper_info", "What a mapped device is")
ATA = {
    "ID_ATA_WRITE_CACHE": Family("disk_ata_write_cache", "Whether an ATA disk has a write cache"),
    "ID_ATA_WRITE_CACHE_ENABLED": Family("disk_ata_write_cache_enabled", "Whether it is in use"),
    "ID_ATA_ROTATION_RATE_RPM": Family("disk_ata_rotation_rate_rpm", "Turns a minute; 0: it has no disk"),
}
# Of these properties the first that is there is the serial number.
SERIALS = ("SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL")


@frozen
class Diskstats:
    """Reads what devices do from /proc/diskstats, and what they are from udev and /sys/block."""

    excluded: re.Pattern[str]  # names of devices
    udev: str  # folder of its database

    def points(self, files: Files, _now: float) -> Iterator[Point]:
        """Yields all points of the group."""
        for line in files.proc("diskstats").splitlines():
            major, minor, device, *numbers = line.split()
            if labels := device_labels(device, self.excluded):
                yield from self._about(files, major.decode(), minor.decode(), labels)
                for family, number in zip(COLUMNS, numbers, strict=False):
                    yield family.at(_value(family, number), labels)

    def _about(self, files: Files, major: str, minor: str, device: LabelPairs) -> Iterator[Point]:
        """Yields the points about what a disk is, from the kernel's and udev's files."""
        known = _properties(files, f"{self.udev}/b{major}:{minor}")
        numbers = {"major": major, "minor": minor, "rotational": _rotational(files, device[0][1])}
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


def _value(family: Family, number: bytes) -> float:
    """Returns a number of /proc/diskstats in its family's unit."""
    if family.unit == "seconds":
        return int(number) / 1000
    return int(number) * SECTOR if family.unit == "bytes" else int(number)


def _properties(files: Files, path: str) -> dict[str, str]:
    """Returns what udev's file about a device says."""
    try:
        lines = files.read(path).decode(errors="backslashreplace").splitlines()
    except OSError:  # there need be no udev
        return {}
    # https://www.freedesktop.org/software/systemd/man/latest/udevadm.html: E: is a property
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)


def _rotational(files: Files, device: str) -> str:
    queue = f"block/{device.replace('/', '!')}/queue"
    # Like node_exporter, don't trust the kernel on disks whose requests have no time limit: virtual or mapped ones.
    try:
        return files.sys(f"{queue}/rotational").decode().strip() if files.has(f"{queue}/io_timeout") else "0"
    except OSError:  # it has been removed since
        return "0"
