"""How full filesystems are: node_exporter's group ``filesystem``.

https://docs.kernel.org/filesystems/proc.html#proc-pid-mountinfo-information-about-mounts
"""

import os
import re
from collections.abc import Iterator

from attrs import frozen

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.collectors.host.statvfs import Figures, StatvfsPool
from stator.log.changes import ChangeLog
from stator.points import LabelPairs, Point

# node_exporter's label of a filesystem that hangs.
HANGS = "mountpoint timeout"
# How the kernel writes a byte in mountinfo that would end a field.
ESCAPED = re.compile(rb"\\([0-7]{3})")

SIZE = Family("filesystem_size", "Size of a filesystem", "bytes", "gauge")
FREE = Family("filesystem_free", "Space that is free on a filesystem", "bytes", "gauge")
AVAILABLE = Family("filesystem_avail", "Space that is free to users other than root", "bytes", "gauge")
FILES = Family("filesystem_files", "Files that a filesystem has room for", "", "gauge")
FILES_FREE = Family("filesystem_files_free", "Files that there is still room for", "", "gauge")
READ_ONLY = Family("filesystem_readonly", "Whether a filesystem can't be written to", "", "gauge")
ERROR = Family("filesystem_device_error", "Whether a filesystem could not be asked", "", "gauge")
INFO = Family("filesystem_mount_info", "Where a device is mounted", "", "gauge")


@frozen
class Mount:
    """A filesystem that is mounted.

    Attributes:
        path: Its path for statvfs(2).
        device: What is mounted.
        fstype: Type of the filesystem.
        point: Where it is mounted, on the host.
        read_only: Whether it can't be written to.
        labels: LabelPairs of its points, while it answers.
        info: LabelPairs of its `INFO`.
    """

    path: bytes
    device: str
    fstype: str
    point: str
    read_only: bool
    labels: LabelPairs
    info: LabelPairs

    def points(self, figures: Figures | None) -> Iterator[Point]:
        """Yields its points, from the answer of statvfs(2); None where it hangs."""
        if not isinstance(figures, os.statvfs_result):
            labels = _labels(self.device, problem(figures), self.fstype, self.point)
            yield ERROR.at(1, labels)
            yield READ_ONLY.at(int(self.read_only), labels)
            return
        yield ERROR.at(0, self.labels)
        yield READ_ONLY.at(int(self.read_only), self.labels)
        yield SIZE.at(figures.f_blocks * figures.f_frsize, self.labels)
        yield FREE.at(figures.f_bfree * figures.f_frsize, self.labels)
        yield AVAILABLE.at(figures.f_bavail * figures.f_frsize, self.labels)
        yield FILES.at(figures.f_files, self.labels)
        yield FILES_FREE.at(figures.f_ffree, self.labels)
        yield INFO.at(1, self.info)


@frozen
class Filter:
    """Which filesystems are left out.

    Attributes:
        points: Pattern of mount points.
        types: Pattern of types.
    """

    points: re.Pattern[str] | None
    types: re.Pattern[str] | None

    def leaves_out(self, point: str, fstype: str) -> bool:
        """Whether a filesystem is, by its mount point and type."""
        return bool((self.points and self.points.search(point)) or (self.types and self.types.search(fstype)))


class Filesystem:
    """Calls statvfs(2) for each filesystem; one that hangs is reported so, and not waited for.

    Args:
        filter_: Which are left out.
        rootfs: Where the host's root is.
        pool: Calls statvfs(2).
        timeout: Seconds that they have to answer.
        changes: Logs which filesystems fail or hang.
    """

    def __init__(self, filter_: Filter, rootfs: str, pool: StatvfsPool, timeout: float, changes: ChangeLog) -> None:
        self._filter, self._rootfs = filter_, rootfs.rstrip("/").encode()
        self._pool, self._timeout, self._changes = pool, timeout, changes
        self._mountinfo = b""
        self._mounts: list[Mount] = []

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns all points of the group.

        Raises:
            OSError: The mounts can't be read.
            ValueError: Their list has another form than the kernel's.
        """
        mountinfo = _mountinfo(files)
        if mountinfo != self._mountinfo:
            self._mounts = self._parse(mountinfo)
            self._mountinfo = mountinfo
        figures = self._pool.statvfs_all({mount.path for mount in self._mounts}, self._timeout)
        self._changes.update(
            {
                mount.point: problem(answer)
                for mount in self._mounts
                if not isinstance(answer := figures.get(mount.path), os.statvfs_result)
            }
        )
        return [point for mount in self._mounts for point in mount.points(figures.get(mount.path))]

    def _parse(self, mountinfo: bytes) -> list[Mount]:
        """Returns the filesystems in mountinfo; of those with the same labels the last, which hides the others."""
        mounts: dict[LabelPairs, Mount] = {}
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
            if self._filter.leaves_out(point, fstype):
                continue
            major, _, minor = numbers.decode().partition(":")
            mount = Mount(
                self._rootfs + self._on_host(path),
                device,
                fstype,
                point,
                "ro" in (*options.decode().split(","), *super_options.split(",")),
                _labels(device, "", fstype, point),
                (("device", device), ("major", major), ("minor", minor), ("mountpoint", point)),
            )
            mounts[mount.labels] = mount
        return list(mounts.values())

    def _on_host(self, path: bytes) -> bytes:
        """Returns a mount point as it is on the host: in a container it lies below `rootfs`."""
        below = path.removeprefix(self._rootfs)
        return (below or b"/") if not below or below.startswith(b"/") else path


def problem(figures: OSError | None) -> str:
    """Returns the label's value for a filesystem that fails, or hangs (None)."""
    return HANGS if figures is None else str(figures.strerror).lower()


def _mountinfo(files: Files) -> bytes:
    """Returns the mounts of the host, or our own where only root may read the host's."""
    try:
        return files.proc("1/mountinfo")
    except (FileNotFoundError, PermissionError):
        return files.proc("self/mountinfo")


def _labels(device: str, error: str, fstype: str, point: str) -> LabelPairs:
    return (("device", device), ("device_error", error), ("fstype", fstype), ("mountpoint", point))
