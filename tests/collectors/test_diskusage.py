"""Disk usage is what df says."""

import math
import subprocess
from pathlib import Path

import pytest

from stator.collectors.diskusage import DiskUsage, DiskUsageConfig
from tests.collectors.contexts import context

# Free space may change during a test: df runs before and after it, at most this many times, until both agree.
TRIES = 200


def df(paths: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """Size and available space in bytes, and percentage in use, of each path's filesystem."""
    command = ["df", "-B1", "--output=size,avail,pcent", *paths]
    table = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [line.replace("%", "").split() for line in table.splitlines()[1:]]
    return [(int(size), int(available), int(percent)) for size, available, percent in rows]


def ours(paths: tuple[str, ...]) -> dict[tuple[str, str], int | float]:
    """Values by point's name and path."""
    points = DiskUsage(paths).collect(0.0).points
    return {(point.name, dict(point.labels)["path"]): point.value for point in points}  # type: ignore[misc] # numbers


@pytest.mark.parametrize("paths", [("/",), ("/dev/shm",), ("/", "/dev/shm")])
def test_the_numbers_are_those_of_df(paths: tuple[str, ...]) -> None:
    for _ in range(TRIES):
        before, reported, after = df(paths), ours(paths), df(paths)
        if before == after:
            break
    assert before == after
    for path, (size, available, percent) in zip(paths, after, strict=True):
        assert reported["size", path] == size
        assert reported["available", path] == available
        # df rounds up.
        assert math.ceil(reported["used", path]) == percent


def test_points_have_their_time_unit_and_path() -> None:
    points_at = DiskUsage(("/",)).collect(12.5)
    assert (points_at.name, points_at.stamp) == ("du", 12.5)
    assert [(point.name, point.unit, point.type, point.labels) for point in points_at.points] == [
        ("size", "bytes", "gauge", (("path", "/"),)),
        ("available", "bytes", "gauge", (("path", "/"),)),
        ("used", "percent", "gauge", (("path", "/"),)),
    ]


def test_a_missing_path_fails_with_the_path(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '{missing}'"):
        DiskUsage(("/", missing)).collect(0.0)


def test_a_filesystem_without_space_is_not_in_use() -> None:
    assert ours(("/proc",)) == {("size", "/proc"): 0, ("available", "/proc"): 0, ("used", "/proc"): 0.0}


def test_a_path_that_is_named_twice_is_reported_once() -> None:
    assert DiskUsageConfig(("/", "/proc", "/")).build(context()) == DiskUsage(("/", "/proc"))
