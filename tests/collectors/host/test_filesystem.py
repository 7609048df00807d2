"""Filesystems, from the kernel's list of mounts."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stator.collectors.host.config import FilesystemConfig, change_log
from stator.collectors.host.filesystem import Filesystem
from stator.collectors.host.statvfs import Figures, StatvfsPool
from stator.points import Point
from tests.captured_log import CapturedLog
from tests.collectors.host.machine import lay_out, read

MOUNTINFO = "proc/1/mountinfo"


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as story:
        yield story


def filesystems_of(machine: Path, story: CapturedLog) -> Filesystem:
    own = FilesystemConfig()
    points, types = re.compile(own.mount_points_exclude), re.compile(own.fs_types_exclude)
    return Filesystem(
        points, types, f"{machine}/rootfs".encode(), StatvfsPool(), 60.0, change_log(story.log, "filesystem")
    )


def points_of(machine: Path, story: CapturedLog) -> list[Point]:
    return filesystems_of(machine, story).points(read(machine), 0.0)


def of(points: list[Point], name: str, *keys: str) -> list[tuple[Any, ...]]:
    """The value of each of a family's points, and some of its labels."""
    return [(point.value, *map(dict(point.labels).get, keys)) for point in points if point.name == name]


def test_mount_points_are_written_as_they_are_and_types_and_places_filtered(tmp_path: Path, story: CapturedLog) -> None:
    points = points_of(lay_out(tmp_path / "machine"), story)
    assert of(points, "filesystem_device_error", "mountpoint", "device", "fstype", "device_error") == [
        (0, "/", "/dev/vda", "ext4", ""),
        (0, "/data/a b", r"/dev/sd\040b1", "xfs", ""),
        (0, "/data/tab\tbed", "/dev/sdb2", "ext4", ""),
        (1, "/gone", "server:/export", "nfs4", "no such file or directory"),
    ]


def test_sizes_are_those_of_the_filesystem_below_the_hosts_root(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine", {MOUNTINFO: "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"})
    points = points_of(machine, story)
    figures = os.statvfs(machine)
    assert of(points, "filesystem_size") == [(figures.f_blocks * figures.f_frsize,)]
    assert of(points, "filesystem_files") == [(figures.f_files,)]
    assert {point.name for point in points} == {
        *("filesystem_size", "filesystem_free", "filesystem_avail", "filesystem_files", "filesystem_files_free"),
        *("filesystem_readonly", "filesystem_device_error", "filesystem_mount_info"),
    }


@pytest.mark.parametrize(
    ("line", "read_only"),
    [
        ("1 0 8:1 / / ro,relatime - ext4 /dev/sda1 rw,errors=remount-ro", 1),
        # The kernel does this to a filesystem that has errors.
        ("1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 ro,errors=remount-ro", 1),
        ("1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro", 0),
    ],
)
def test_read_only_is_the_mount_or_the_filesystem(
    tmp_path: Path, story: CapturedLog, line: str, read_only: int
) -> None:
    points = points_of(lay_out(tmp_path / "machine", {MOUNTINFO: f"{line}\n"}), story)
    assert of(points, "filesystem_readonly") == [(read_only,)]


def test_where_a_device_is_mounted_has_its_numbers(tmp_path: Path, story: CapturedLog) -> None:
    points = points_of(lay_out(tmp_path / "machine"), story)
    assert of(points, "filesystem_mount_info", "mountpoint", "major", "minor")[1] == (1, "/data/a b", "8", "17")


def test_of_mounts_over_each_other_the_last_is_points_of(tmp_path: Path, story: CapturedLog) -> None:
    lines = "1 0 0:7 / / ro - tmpfs tmpfs rw\n2 0 0:8 / / rw - tmpfs tmpfs rw\n"
    points = points_of(lay_out(tmp_path / "machine", {MOUNTINFO: lines}), story)
    assert of(points, "filesystem_readonly") == [(0,)]
    assert of(points, "filesystem_mount_info", "minor") == [(1, "8")]


def test_a_mount_point_that_is_no_text_is_reported_too(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine")
    (machine / os.fsdecode(b"rootfs/caf\xe9")).mkdir()
    (machine / MOUNTINFO).write_bytes(b"1 0 0:7 / /caf\xe9 rw - tmpfs tmpfs rw\n")
    assert of(points_of(machine, story), "filesystem_device_error", "mountpoint") == [(0, r"/caf\xe9")]


def test_a_mount_point_may_have_any_letter(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine", {MOUNTINFO: "1 0 0:7 / /a\r\\134b\\012c rw - tmpfs tmpfs rw\n"})
    (machine / "rootfs/a\r\\b\nc").mkdir()
    assert of(points_of(machine, story), "filesystem_device_error", "mountpoint") == [(0, "/a\r\\b\nc")]


def test_mount_points_are_those_of_the_host(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine")
    root = f"{machine}/rootfs"
    lines = [
        f"{nth} 0 0:{nth} / {point} rw - tmpfs tmpfs rw" for nth, point in enumerate((root, f"{root}/data", f"{root}s"))
    ]
    (machine / MOUNTINFO).write_text("\n".join(lines))
    points = [point for _, point in of(points_of(machine, story), "filesystem_device_error", "mountpoint")]
    assert points == ["/", "/data", f"{root}s"]


def test_without_the_hosts_mounts_there_are_our_own(tmp_path: Path, story: CapturedLog) -> None:
    files = {MOUNTINFO: None, "proc/self/mountinfo": "1 0 0:7 / / rw - ext4 /dev/self rw\n"}
    points = points_of(lay_out(tmp_path / "machine", files), story)
    assert of(points, "filesystem_mount_info", "device") == [(1, "/dev/self")]


def test_a_line_that_is_no_mount_is_in_the_error(tmp_path: Path, story: CapturedLog) -> None:
    with pytest.raises(ValueError, match="a mount without a filesystem: b'1 0 8:1 / / rw ext4'"):
        points_of(lay_out(tmp_path / "machine", {MOUNTINFO: "1 0 8:1 / / rw ext4\n"}), story)


def test_mounts_that_come_are_seen_at_the_next_scrape(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine", {MOUNTINFO: ""})
    filesystems = filesystems_of(machine, story)
    assert filesystems.points(read(machine), 0.0) == []
    lay_out(machine)
    assert of(filesystems.points(read(machine), 0.0), "filesystem_mount_info", "mountpoint")[0] == (1, "/")


class Moody(StatvfsPool):
    """Stands in for filesystems that hang and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = True

    def statvfs_all(self, paths: Any, timeout: float) -> dict[bytes, Figures]:
        return {} if self.hangs else super().statvfs_all(paths, timeout)


def test_a_filesystem_that_hangs_has_a_label_and_one_line_in_the_log(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine", {MOUNTINFO: "1 0 8:1 / / ro - nfs4 server:/ rw\n"})
    pool = Moody()
    nothing = re.compile("(?!)")
    filesystems = Filesystem(nothing, nothing, b"", pool, 5.0, change_log(story.log, "filesystem"))
    for _ in range(2):
        points = filesystems.points(read(machine), 0.0)
        assert of(points, "filesystem_device_error", "device_error") == [(1, "mountpoint timeout")]
        assert of(points, "filesystem_readonly", "device_error") == [(1, "mountpoint timeout")]
        assert len(points) == 2
    pool.hangs = False
    assert of(filesystems.points(read(machine), 0.0), "filesystem_device_error") == [(0,)]
    assert [(line["level"], line["msg"], line["filesystem"]) for line in story.lines] == [
        ("warning", "can't read from host", "/"),
        ("info", "can read from host again", "/"),
    ]
