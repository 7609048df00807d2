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
from stator.points import Labels, Point

# What it calls a filesystem that hangs.
HANGS = "mountpoint timeout"
# A byte that would end a field of mountinfo, as the kernel writes it there.
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
        path: Where it can be asked.
        device: What is mounted.
        fstype: Type of the filesystem.
        point: Where it is mounted, on the host.
        read_only: Whether it can't be written to.
        labels: Labels of its points, as long as nothing is wrong with it.
        info: Labels that tell where it is mounted.
    """

    path: bytes
    device: str
    fstype: str
    point: str
    read_only: bool
    labels: Labels
    info: Labels

    def points(self, figures: Figures | None) -> Iterator[Point]:
        """Its points, from what it says of itself; None where it hangs."""
        if not isinstance(figures, os.statvfs_result):
            labels = _labels(self.device, why(figures), self.fstype, self.point)
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
        points: Finds mount points.
        types: Finds types.
    """

    points: re.Pattern[str] | None
    types: re.Pattern[str] | None

    def leaves_out(self, point: str, fstype: str) -> bool:
        """Whether one is, by where it is mounted and its type."""
        return bool((self.points and self.points.search(point)) or (self.types and self.types.search(fstype)))


class Filesystem:
    """What each filesystem says of itself; one that hangs is told to hang, and not waited for.

    Args:
        filter_: Which are left out.
        rootfs: Where the host's root is.
        pool: Calls statvfs(3) for them.
        timeout: Seconds that they have to answer.
        troubles: Where those that can't be asked are told.
    """

    def __init__(self, filter_: Filter, rootfs: str, pool: StatvfsPool, timeout: float, troubles: ChangeLog) -> None:
        self._filter, self._rootfs = filter_, rootfs.rstrip("/").encode()
        self._pool, self._timeout, self._troubles = pool, timeout, troubles
        self._mountinfo = b""
        self._mounts: list[Mount] = []

    def points(self, files: Files, _now: float) -> list[Point]:
        """All points of the group.

        Raises:
            OSError: The mounts can't be read.
            ValueError: They are not told as the kernel should.
        """
        mountinfo = _mountinfo(files)
        if mountinfo != self._mountinfo:
            self._mounts = self._parse(mountinfo)
            self._mountinfo = mountinfo
        figures = self._pool.statvfs_all({mount.path for mount in self._mounts}, self._timeout)
        self._troubles.update(
            {
                mount.point: why(said)
                for mount in self._mounts
                if not isinstance(said := figures.get(mount.path), os.statvfs_result)
            }
        )
        return [point for mount in self._mounts for point in mount.points(figures.get(mount.path))]

    def _parse(self, mountinfo: bytes) -> list[Mount]:
        """The filesystems to ask; of those that would be told by the same labels the last, which hides the others."""
        mounts: dict[Labels, Mount] = {}
        # A carriage return may be part of a name: only these ends are lines' ends.
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
        """A mount point as the host has it, of which another may see it below `rootfs`."""
        below = path.removeprefix(self._rootfs)
        return (below or b"/") if not below or below.startswith(b"/") else path


def why(figures: OSError | None) -> str:
    """The label's value for a filesystem that can't be asked."""
    return HANGS if figures is None else str(figures.strerror).lower()


def _mountinfo(files: Files) -> bytes:
    """All mounts of the host, or, where only root may know them, those that we see."""
    try:
        return files.proc("1/mountinfo")
    except (FileNotFoundError, PermissionError):
        return files.proc("self/mountinfo")


def _labels(device: str, error: str, fstype: str, point: str) -> Labels:
    return (("device", device), ("device_error", error), ("fstype", fstype), ("mountpoint", point))
