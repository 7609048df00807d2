"""Disk usage of chosen filesystems."""

import os
import re
import select
import weakref
from collections.abc import Callable, Iterable, Iterator

from attrs import Factory, field, frozen

from stator.points import CollectorContext, Point, PointsAt
from stator.settings.declare import setting

# https://www.kernel.org/doc/html/latest/filesystems/proc.html (3.5, mountinfo)
MOUNTINFO = "/proc/self/mountinfo"
# Filesystems whose figures are in memory. Any other may have to ask a server, or a process of a user.
LOCAL = frozenset({"btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "overlay", "squashfs", "tmpfs", "vfat", "xfs"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


def _has_changed(fd: int) -> bool:
    """Whether the list of mounts, as an open file, has changed since the last call."""
    poller = select.poll()
    poller.register(fd, select.POLLPRI)
    return bool(poller.poll(0))


class Mounts:
    """Separates local filesystems, which never block, from network filesystems, which may."""

    def __init__(
        self, paths: Iterable[str], mountinfo: str = MOUNTINFO, has_changed: Callable[[int], bool] = _has_changed
    ) -> None:
        self._paths, self._mountinfo, self._has_changed = tuple(paths), mountinfo, has_changed
        self._fd, self._pid = -1, 0
        self._close: Callable[[], object] = lambda: None
        self._are_local = False

    def are_local(self) -> bool:
        """Whether all paths are known to lie on local filesystems. Asks only the kernel, and so never blocks."""
        try:
            if self._pid != os.getpid():
                self._open()
            elif not self._has_changed(self._fd):  # reading the list takes 50 times as long as asking
                return self._are_local
            self._are_local = self._look()
        except OSError:
            return False  # the file can't be read, so nothing is known
        return self._are_local

    def _open(self) -> None:
        """Opens the file for this process: the kernel reports each change once for each open file."""
        self._close()
        self._pid = 0
        self._fd = os.open(self._mountinfo, os.O_RDONLY | os.O_CLOEXEC)
        self._close, self._pid = weakref.finalize(self, os.close, self._fd), os.getpid()

    def _look(self) -> bool:
        with open(self._fd, closefd=False, errors="surrogateescape") as file:
            file.seek(0)
            lines = [line.split() for line in file]
        types = {_ESCAPED.sub(lambda code: chr(int(code[1], 8)), line[4]): line[line.index("-") + 1] for line in lines}
        return all(_is_local(path, types) for path in self._paths)


@frozen(eq=False, repr=False)
class DiskUsageConfig:
    """Settings of the `diskusage` collector."""

    paths: tuple[str, ...] = setting(("/",), desc="filesystem paths to collect usage stats")

    def build(self, context: CollectorContext) -> "DiskUsage":
        """Returns a collector of these paths, each once: a series must not come twice."""
        return DiskUsage(tuple(dict.fromkeys(self.paths)))


@frozen
class DiskUsage:
    """Reports size, available and used space of each path's filesystem, as ``df`` does.

    Fails with the path and the reason if one can't be read.
    """

    paths: tuple[str, ...]
    _mounts: Mounts = field(
        init=False, eq=False, repr=False, default=Factory(lambda self: Mounts(self.paths), takes_self=True)
    )

    def is_nonblocking(self) -> bool:
        """Returns True where all filesystems are local: the server of another may be gone."""
        return self._mounts.are_local()

    def collect(self, now: float) -> PointsAt:
        """Returns the figures of each path; raises OSError for one that can't be read."""
        return PointsAt("du", now, points=[point for path in self.paths for point in _usage(path)])


def _usage(path: str) -> Iterator[Point]:
    usage = os.statvfs(path)
    labels = (("path", path),)
    used = usage.f_blocks - usage.f_bfree
    # As df does it: blocks that are reserved for root are neither used nor available.
    usable = used + usage.f_bavail
    size, available = usage.f_blocks * usage.f_frsize, usage.f_bavail * usage.f_frsize
    percent = 100 * used / usable if usable else 0.0
    yield Point("size", "Total size of the filesystem", size, "gauge", "bytes", labels)
    yield Point("available", "Available space on the filesystem", available, "gauge", "bytes", labels)
    yield Point("used", "Percentage of space on the filesystem in use", percent, "gauge", "percent", labels)


def _is_local(path: str, types: dict[str, str]) -> bool:
    """Whether a path is a mount point, and so no link to elsewhere, and all filesystems above it are local too."""
    on_the_way = [type_ for point, type_ in types.items() if f"{path}/".startswith(f"{point.rstrip('/')}/")]
    return path in types and LOCAL.issuperset(on_the_way)
