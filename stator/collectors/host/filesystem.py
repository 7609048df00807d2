"""How full filesystems are: node_exporter's group ``filesystem``."""

import os
import re
from collections.abc import Iterator

from attrs import define, field, frozen

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.collectors.host.statvfs import Figures, StatvfsPool
from stator.log.changes import ChangeLog
from stator.points import Point

# node_exporter's label of a filesystem that hangs.
HANGS = "mountpoint timeout"
# How mountinfo has a byte that would end a field: https://docs.kernel.org/filesystems/proc.html
ESCAPED = re.compile(rb"\\([0-7]{3})")

SIZE = Family("filesystem_size", "Size of a filesystem", "bytes")
FREE = Family("filesystem_free", "Space that is free on a filesystem", "bytes")
AVAILABLE = Family("filesystem_avail", "Space that is free to users other than root", "bytes")
FILES = Family("filesystem_files", "Files that a filesystem has room for")
FILES_FREE = Family("filesystem_files_free", "Files that there is still room for")
READ_ONLY = Family("filesystem_readonly", "Whether a filesystem can't be written to")
ERROR = Family("filesystem_device_error", "Whether a filesystem could not be asked")
INFO = Family("filesystem_mount_info", "Where a device is mounted")


@frozen
class Mount:
    """A filesystem that is mounted."""

    path: bytes  # for statvfs(2)
    device: str
    numbers: str  # the device's, major:minor
    fstype: str
    point: str  # where it is mounted, on the host
    read_only: bool

    def points(self, figures: Figures | None) -> Iterator[Point]:
        """Yields its points, from the answer of statvfs(2); None where it hangs."""
        error = problem(figures)
        device, point = ("device", self.device), ("mountpoint", self.point)
        labels = (device, ("device_error", error), ("fstype", self.fstype), point)
        yield ERROR.at(int(bool(error)), labels)
        yield READ_ONLY.at(int(self.read_only), labels)
        if isinstance(figures, os.statvfs_result):
            yield SIZE.at(figures.f_blocks * figures.f_frsize, labels)
            yield FREE.at(figures.f_bfree * figures.f_frsize, labels)
            yield AVAILABLE.at(figures.f_bavail * figures.f_frsize, labels)
            yield FILES.at(figures.f_files, labels)
            yield FILES_FREE.at(figures.f_ffree, labels)
            major, _, minor = self.numbers.partition(":")
            yield INFO.at(1, (device, ("major", major), ("minor", minor), point))


@define(eq=False)
class Filesystem:
    """Calls statvfs(2) for each filesystem; one that hangs is reported so, and not waited for."""

    points_excluded: re.Pattern[str]
    types_excluded: re.Pattern[str]
    rootfs: bytes  # where the host's root is, without a slash at the end
    pool: StatvfsPool
    timeout: float  # seconds that filesystems have to answer
    changes: ChangeLog
    _mountinfo: bytes = field(default=b"", init=False)
    _mounts: list[Mount] = field(factory=list, init=False)

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns all points of the group."""
        mountinfo = _mountinfo(files)
        if mountinfo != self._mountinfo:  # parsing takes as long as all other work
            self._mounts, self._mountinfo = self._parse(mountinfo), mountinfo
        figures = self.pool.statvfs_all({mount.path for mount in self._mounts}, self.timeout)
        problems = {mount.point: problem(figures.get(mount.path)) for mount in self._mounts}
        self.changes.update({point: reason for point, reason in problems.items() if reason})
        return [point for mount in self._mounts for point in mount.points(figures.get(mount.path))]

    def _parse(self, mountinfo: bytes) -> list[Mount]:
        """Returns the filesystems in mountinfo; of those with the same labels the last, which hides the others."""
        mounts: dict[tuple[str, str, str], Mount] = {}
        # Not splitlines(): a carriage return may be part of a name.
        for line in filter(None, mountinfo.split(b"\n")):
            before, dash, after = line.partition(b" - ")
            if not dash:
                msg = f"a mount without a filesystem: {line!r}"
                raise ValueError(msg)
            _, _, numbers, _, path, options, *_ = before.split(b" ")
            fstype, device, super_options = (each.decode(errors="backslashreplace") for each in after.split(b" ", 2))
            path = ESCAPED.sub(lambda code: bytes([int(code[1], 8)]), path)
            point = self._on_host(path).decode(errors="backslashreplace")
            if self.points_excluded.search(point) or self.types_excluded.search(fstype):
                continue
            is_read_only = "ro" in (*options.decode().split(","), *super_options.split(","))
            on_host = self.rootfs + self._on_host(path)
            mounts[device, fstype, point] = Mount(on_host, device, numbers.decode(), fstype, point, is_read_only)
        return list(mounts.values())

    def _on_host(self, path: bytes) -> bytes:
        """Returns a mount point as it is on the host: in a container it lies below `rootfs`."""
        below = path.removeprefix(self.rootfs)
        return (below or b"/") if not below or below.startswith(b"/") else path


def problem(figures: Figures | None) -> str:
    """Returns the label's value for a filesystem that fails, or hangs (None); empty where it answers."""
    if isinstance(figures, OSError):
        return str(figures.strerror).lower()
    return "" if figures else HANGS


def _mountinfo(files: Files) -> bytes:
    """Returns the mounts of the host, or our own where only root may read the host's."""
    try:
        return files.proc("1/mountinfo")
    except (FileNotFoundError, PermissionError):
        return files.proc("self/mountinfo")
