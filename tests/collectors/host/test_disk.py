"""Disks: what they did in columns that depend on the kernel, and what udev says they are."""

import re
from pathlib import Path

from stator.collectors.host.config import DiskstatsConfig
from stator.collectors.host.disk import Diskstats
from tests.collectors.host.machine import FILES, lay_out, read, values

DISKSTATS = FILES["proc/diskstats"]


def disks_of(udev: Path) -> Diskstats:
    return Diskstats(re.compile(DiskstatsConfig().device_exclude), str(udev))


def reported(machine: Path) -> dict[str, float]:
    return values(disks_of(machine / "udev").points(read(machine), 0.0))


def test_units_are_bytes_and_seconds(tmp_path: Path) -> None:
    disks = reported(lay_out(tmp_path))
    assert disks["node_disk_read_bytes_total sda"] == 1003346126 * 512
    assert disks["node_disk_read_time_seconds_total sda"] == 18492.372
    assert disks["node_disk_io_now dm-0"] == 2
    assert disks["node_disk_discard_time_seconds_total dm-0"] == 0.01
    assert disks["node_disk_flush_requests_time_seconds_total nvme0n1"] == 0.016


def test_each_device_has_the_columns_that_its_kernel_knows(tmp_path: Path) -> None:
    counts = {
        device: sum(name.endswith(f" {device}") and "_info" not in name and "_ata_" not in name for name in disks)
        for disks in [reported(lay_out(tmp_path))]
        for device in ("sda", "dm-0", "nvme0n1", "cciss/c0d0")
    }
    assert counts == {"sda": 11, "dm-0": 15, "nvme0n1": 17, "cciss/c0d0": 17}


def test_partitions_and_loop_devices_are_left_out(tmp_path: Path) -> None:
    devices = {name.split()[1] for name in reported(lay_out(tmp_path))}
    assert devices == {"sda", "dm-0", "nvme0n1", "cciss/c0d0"}


def test_a_disk_is_described_as_udev_does(tmp_path: Path) -> None:
    machine = lay_out(tmp_path, {"sys/block/sda/queue/io_timeout": "30000\n"})
    points = disks_of(machine / "udev").points(read(machine), 0.0)
    infos = {dict(point.labels)["device"]: dict(point.labels) for point in points if point.name == "disk_info"}
    assert infos["sda"] == {
        "device": "sda",
        "major": "8",
        "minor": "0",
        "path": "pci-0000:00:1f.2-ata-1",
        "wwn": "0x50004cf20a",
        "model": "ST500LM012",
        "serial": "S2X8J1",
        "revision": "2AR20001",
        "rotational": "1",
    }
    assert infos["nvme0n1"]["serial"] == "EHFTF55"
    assert infos["cciss/c0d0"]["serial"] == ""


def test_filesystems_mapped_devices_and_ata_disks_have_families_of_their_own(tmp_path: Path) -> None:
    disks = reported(lay_out(tmp_path))
    assert disks["node_disk_filesystem_info dm-0 ext4 filesystem 3deafd0d 1.0"] == 1
    assert disks["node_disk_device_mapper_info dm-0 vg-root LVM-x vg root "] == 1
    assert disks["node_disk_ata_rotation_rate_rpm sda"] == 7200
    assert disks["node_disk_ata_write_cache sda"] == 1
    assert disks["node_disk_ata_write_cache_enabled sda"] == 0


def test_ata_properties_that_are_odd_are_left_out(tmp_path: Path) -> None:
    disks = reported(lay_out(tmp_path, {"udev/b8:0": "E:ID_ATA=1\nE:ID_ATA_WRITE_CACHE=maybe\nE:novalue\n"}))
    assert not any("_ata_" in name for name in disks)


def test_there_need_be_no_udev(tmp_path: Path) -> None:
    machine = lay_out(tmp_path)
    disks = values(disks_of(machine / "nowhere").points(read(machine), 0.0))
    assert disks["node_disk_writes_merged_total sda"] == 11134226


def test_what_becomes_of_a_disk_is_seen_at_the_next_scrape(tmp_path: Path) -> None:
    machine = lay_out(tmp_path)
    disks = disks_of(machine / "udev")
    before = values(disks.points(read(machine), 0.0))
    gone = "".join(line for line in DISKSTATS.splitlines(keepends=True) if "sda" not in line)
    lay_out(tmp_path, {"proc/diskstats": gone, "udev/b259:0": "E:ID_FS_TYPE=xfs\n"})
    after = values(disks.points(read(machine), 0.0))
    assert any(name.endswith(" sda") for name in before)
    assert not any(name.endswith(" sda") for name in after)
    assert [name for name in after.keys() - before.keys() if "filesystem" in name] == [
        "node_disk_filesystem_info nvme0n1 xfs   "
    ]
