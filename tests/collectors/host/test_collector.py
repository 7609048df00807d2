"""The host collector reports what a machine's files hold, even if one of them is broken."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stator.collectors.host.config import GROUPS, HostConfig
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.points import Labels, PointsAt, family_name
from stator.settings.declare import ConfigError
from tests.captured_log import CapturedLog
from tests.collectors.contexts import context
from tests.collectors.host.machine import hosted, lay_out
from tests.decoding import decode


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as story:
        yield story


def succeeded(points_at: PointsAt) -> dict[str, int]:
    """Whether each group could be collected."""
    found = (point for point in points_at.points if point.name == "scrape_collector_success")
    return {dict(point.labels)["collector"]: int(point.value) for point in found}  # type: ignore[arg-type] # a number


def labelled(points_at: PointsAt, name: str) -> list[Labels]:
    """Labels of a family's points."""
    return [point.labels for point in points_at.points if point.name == name]


def test_all_groups_of_a_machine_can_be_collected(tmp_path: Path, story: CapturedLog) -> None:
    points_at = hosted(lay_out(tmp_path / "machine")).build(context(log=story.log)).collect(12.5)
    assert (points_at.name, points_at.stamp, points_at.labels) == ("node", 12.5, ())
    assert succeeded(points_at) == dict.fromkeys(GROUPS, 1)
    durations = [point for point in points_at.points if point.name == "scrape_collector_duration"]
    assert [dict(point.labels)["collector"] for point in durations] == list(GROUPS)
    assert all(0 <= point.value < 10 for point in durations)  # type: ignore[operator] # numbers


def test_no_series_comes_twice(tmp_path: Path, story: CapturedLog) -> None:
    points = hosted(lay_out(tmp_path / "machine")).build(context(log=story.log)).collect(0.0).points
    series = [(family_name("node", point.name, point.unit), frozenset(point.labels)) for point in points]
    assert len(set(series)) == len(series)


@pytest.mark.parametrize(
    ("group", "path"),
    [
        ("cpu", "proc/stat"),
        ("diskstats", "proc/diskstats"),
        ("filefd", "proc/sys/fs/file-nr"),
        ("filesystem", "proc/1/mountinfo"),
        ("loadavg", "proc/loadavg"),
        ("meminfo", "proc/meminfo"),
        ("netdev", "proc/net/dev"),
        ("netstat", "proc/net/netstat"),
        ("netstat", "proc/net/snmp"),
        ("time", "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        ("uname", "proc/sys/kernel/domainname"),
        ("vmstat", "proc/vmstat"),
    ],
)
@pytest.mark.parametrize("content", [None, "\xff: what? - \n"])
def test_a_file_that_is_missing_or_odd_fails_its_group_alone(
    tmp_path: Path, story: CapturedLog, group: str, path: str, content: str | None
) -> None:
    host = hosted(lay_out(tmp_path / "machine", {path: content})).build(context(log=story.log))
    found = succeeded(host.collect(0.0))
    failed = {name for name, success in found.items() if not success}
    assert failed <= {group, "stat"}
    if content is None:
        assert group in failed
        (line, *_) = [line for line in story.lines_with("can't read from host") if line.get("group") == group]
        # A mount that only root may see has another file.
        assert str(tmp_path / "machine" / path).replace("/1/", "/self/") in line["reason"]


@pytest.mark.parametrize(
    ("path", "content", "group", "reason"),
    [
        ("proc/vmstat", "pgfault 1\npgfault 2\n", "vmstat", "node_vmstat_pgfault [] comes twice"),
        ("proc/stat", "cpu0 -5 0 0 0\nctxt 9\n", "cpu", "a counter can't be -0.05"),
    ],
)
def test_a_group_that_could_not_be_exposed_fails_alone(
    tmp_path: Path, story: CapturedLog, path: str, content: str, group: str, reason: str
) -> None:
    host = hosted(lay_out(tmp_path / "machine", {path: content})).build(context(log=story.log))
    points_at = host.collect(0.0)
    assert [name for name, success in succeeded(points_at).items() if not success] == [group]
    (line,) = [line for line in story.lines_with("can't read from host") if line.get("group")]
    assert (line["group"], reason in line["reason"]) == (group, True)
    Encoder(TEXT_0_0_4, timestamps=False).exposition().add("host", points_at)


def test_a_group_that_fails_is_logged_once_and_so_is_its_recovery(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine", {"proc/loadavg": None, "proc/1/mountinfo": ""})
    host = hosted(machine).build(context(log=story.log))
    for _ in range(3):
        host.collect(0.0)
    (line,) = story.lines
    assert (line["level"], line["group"]) == ("warning", "loadavg")
    assert line["reason"] == f"FileNotFoundError: [Errno 2] No such file or directory: '{machine}/proc/loadavg'"
    (machine / "proc/loadavg").write_text("much")
    host.collect(0.0)
    assert "ValueError" in story.lines[1]["reason"]
    lay_out(machine, {"proc/1/mountinfo": ""})
    for _ in range(3):
        host.collect(0.0)
    (line,) = story.lines[2:]
    assert (line["level"], line["msg"], line["group"]) == ("info", "can read from host again", "loadavg")


def test_only_the_groups_that_are_named_are_collected(tmp_path: Path, story: CapturedLog) -> None:
    points_at = (
        hosted(lay_out(tmp_path / "machine"), collectors=("uname", "loadavg"))
        .build(context(log=story.log))
        .collect(0.0)
    )
    names = [point.name for point in points_at.points if not point.name.startswith("scrape_")]
    assert names == ["uname_info", "load1", "load5", "load15"]


def configured(**variables: str) -> HostConfig:
    return decode(HostConfig, "STTR_HOST", {f"STTR_HOST_{name}": value for name, value in variables.items()})


def test_filters_and_places_are_settings(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine")
    config = configured(
        PROCFS=f"{machine}/proc",
        SYSFS=f"{machine}/sys",
        ROOTFS=f"{machine}/rootfs",
        UDEV=f"{machine}/udev",
        DISKSTATS_DEVICEEXCLUDE="^[^l]",
        NETCLASS_IGNOREDDEVICES="^(lo|eth)",
        NETCLASS_IGNOREINVALIDSPEED="true",
        NETDEV_DEVICEEXCLUDE="^lo$",
        NETSTAT_FIELDS="^Tcp_",
        FILESYSTEM_MOUNTPOINTSEXCLUDE="^/(data|gone)",
        FILESYSTEM_FSTYPESEXCLUDE="^tmpfs$",
        VMSTAT_FIELDS="^nr_",
    )
    points_at = config.build(context(log=story.log)).collect(0.0)
    assert labelled(points_at, "disk_io_now") == [(("device", "loop0"),)]
    assert labelled(points_at, "network_up") == [(("device", "usb0"),)]
    assert labelled(points_at, "network_speed") == []
    assert {"netstat_Tcp_RtoMax", "netstat_Tcp_MaxConn"} <= {point.name for point in points_at.points}
    assert labelled(points_at, "netstat_IpExt_InOctets") == []
    assert labelled(points_at, "network_receive") == [(("device", "eth0"),)]
    mounted = [dict(labels)["mountpoint"] for labels in labelled(points_at, "filesystem_readonly")]
    assert mounted == ["/", "/proc"]
    assert [point.name for point in points_at.points if "vmstat" in point.name] == ["vmstat_nr_free_pages"]


def test_an_empty_filter_leaves_nothing_out(tmp_path: Path, story: CapturedLog) -> None:
    machine = lay_out(tmp_path / "machine")
    config = configured(PROCFS=f"{machine}/proc", DISKSTATS_DEVICEEXCLUDE="", COLLECTORS="diskstats")
    devices = [
        dict(labels)["device"] for labels in labelled(config.build(context(log=story.log)).collect(0.0), "disk_io_now")
    ]
    assert devices == ["loop0", "sda", "sda1", "dm-0", "nvme0n1", "cciss/c0d0"]


def test_invalid_settings_are_listed_with_what_was_expected() -> None:
    with pytest.raises(ConfigError) as error:
        configured(COLLECTORS="cpu,sun", NETDEV_DEVICEEXCLUDE="(", FILESYSTEM_MOUNTTIMEOUT="0s")
    assert error.value.problems == [
        f"STTR_HOST_COLLECTORS='cpu,sun': expected names out of {', '.join(GROUPS)}",
        "STTR_HOST_FILESYSTEM_MOUNTTIMEOUT='0s': expected a duration longer than 0s, such as 250ms, 10s or 1m30s",
        "STTR_HOST_NETDEV_DEVICEEXCLUDE='(': expected a regular expression",
    ]
