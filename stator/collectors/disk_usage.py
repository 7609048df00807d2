"""Disk usage of chosen filesystems."""

import os
from collections.abc import Iterator

from attrs import Factory, field, frozen

from stator.collectors.mounts import Mounts
from stator.points import Point, PointsAt
from stator.settings.declare import setting


@frozen
class Config:
    """What a disk usage collector can be told."""

    paths: tuple[str, ...] = setting(("/",), desc="filesystem paths to collect usage stats")

    def new(self) -> "DiskUsage":
        """A collector of these paths, each once: a series must not come twice."""
        return DiskUsage(tuple(dict.fromkeys(self.paths)))


@frozen
class DiskUsage:
    """Collects size, available and used space of each path's filesystem, as ``df`` has them.

    A path that can't be read fails the collection with the path and the reason.
    """

    paths: tuple[str, ...]
    _mounts: Mounts = field(
        init=False, eq=False, repr=False, default=Factory(lambda self: Mounts(self.paths), takes_self=True)
    )

    def never_waits(self) -> bool:
        """Where all is of this machine: the server of a network filesystem may be gone."""
        return self._mounts.are_local()

    def collect(self, now: float) -> PointsAt:
        """Asks the kernel for each path.

        Raises:
            OSError: A path can't be read.
        """
        points = [point for path in self.paths for point in _usage(path)]
        return PointsAt("du", now, points=points)


def _usage(path: str) -> Iterator[Point]:
    usage = os.statvfs(path)
    labels = (("path", path),)
    used = usage.f_blocks - usage.f_bfree
    # As df has it: blocks that are kept for root are neither used nor available.
    usable = used + usage.f_bavail
    yield Point("size", "Total size of the filesystem", "bytes", "gauge", usage.f_blocks * usage.f_frsize, labels)
    yield Point(
        "available",
        "Available space on the filesystem",
        "bytes",
        "gauge",
        usage.f_bavail * usage.f_frsize,
        labels,
    )
    percent = 100 * used / usable if usable else 0.0
    yield Point("used", "Percentage of space on the filesystem in use", "percent", "gauge", percent, labels)
