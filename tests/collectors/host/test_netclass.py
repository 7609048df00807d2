"""What network devices are, some of which can't tell, vanish, or do not answer."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stator.collectors.host.config import change_log
from stator.collectors.host.netclass import Netclass
from tests.captured_log import CapturedLog
from tests.collectors.host.machine import devices, lay_out, read, values
from tests.program import eventually

NET = "sys/class/net"


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as story:
        yield story


@pytest.fixture
def netclass(story: CapturedLog) -> Netclass:
    return Netclass(re.compile("(?!)"), ignore_invalid_speed=False, changes=change_log(story.log, "device"))


def about(netclass: Netclass, machine: Path, device: str) -> dict[str, int]:
    """What one device is, by the family's name."""
    found = values(netclass.points(read(machine), 0.0))
    return {name.removesuffix(f" {device}"): value for name, value in found.items() if name.endswith(f" {device}")}


def seen(netclass: Netclass, machine: Path) -> set[str]:
    """Devices that are reported."""
    return {dict(point.labels)["device"] for point in netclass.points(read(machine), 0.0)}


def test_each_number_is_a_family(tmp_path: Path, netclass: Netclass) -> None:
    assert about(netclass, lay_out(tmp_path / "machine"), "eth0") == {
        "node_network_up": 1,
        "node_network_speed_bytes": 1_250_000_000,
        "node_network_address_assign_type": 3,
        "node_network_carrier": 1,
        "node_network_carrier_changes_total": 5,
        "node_network_carrier_up_changes_total": 3,
        "node_network_carrier_down_changes_total": 2,
        "node_network_device_id": 32,
        "node_network_dormant": 0,
        "node_network_flags": 0x1003,
        "node_network_iface_link": 6,
        "node_network_iface_link_mode": 1,
        "node_network_mtu_bytes": 1400,
        "node_network_name_assign_type": 4,
        "node_network_net_dev_group": 7,
        "node_network_transmit_queue_length": 1001,
        "node_network_protocol_type": 1,
        "node_network_iface_id": 4,
    }


def test_what_is_no_number_is_in_the_labels(tmp_path: Path, netclass: Netclass) -> None:
    points = netclass.points(read(lay_out(tmp_path / "machine")), 0.0)
    eth0, lo, usb0 = (dict(point.labels) for point in points if point.name == "network_info")
    assert eth0 == {
        "device": "eth0",
        "address": "02:fc:00:00:00:01",
        "broadcast": "ff:ff:ff:ff:ff:ff",
        "duplex": "full",
        "operstate": "up",
        "ifalias": "to_rack_7",
        "adminstate": "up",
    }
    assert (lo["duplex"], lo["operstate"], lo["adminstate"]) == ("", "unknown", "up")
    assert (usb0["broadcast"], usb0["operstate"], usb0["adminstate"]) == ("", "down", "down")


def test_what_a_device_can_not_tell_is_left_out(tmp_path: Path, netclass: Netclass) -> None:
    machine = lay_out(tmp_path / "machine", devices(eth0="speed=fast dormant= flags="))
    (machine / NET / "eth0/mtu").unlink()
    (machine / NET / "eth0/carrier").unlink()
    (machine / NET / "eth0/carrier").mkdir()  # can be opened, but not read
    found = about(netclass, machine, "eth0")
    assert "node_network_iface_id" in found
    missing = ("speed_bytes", "dormant", "flags", "mtu_bytes", "carrier")
    assert not {f"node_network_{name}" for name in missing} & set(found)
    info = next(point for point in netclass.points(read(machine), 0.0) if point.name == "network_info")
    assert dict(info.labels)["adminstate"] == "unknown"


def test_a_speed_that_a_device_does_not_know_is_negative(tmp_path: Path, netclass: Netclass) -> None:
    machine = lay_out(tmp_path / "machine")
    assert about(netclass, machine, "usb0")["node_network_speed_bytes"] == -125_000
    netclass.ignore_invalid_speed = True
    assert "node_network_speed_bytes" not in about(netclass, machine, "usb0")
    assert "node_network_speed_bytes" in about(netclass, machine, "eth0")


def test_devices_come_and_go_and_what_is_none_is_not_reported(tmp_path: Path, netclass: Netclass) -> None:
    machine = lay_out(tmp_path / "machine")
    (machine / NET / "gone").mkdir()
    assert (machine / NET / "bonding_masters").is_file()
    assert seen(netclass, machine) == {"lo", "eth0", "usb0"}
    lay_out(machine, devices(veth1="ifindex=12"))
    assert seen(netclass, machine) == {"lo", "eth0", "usb0", "veth1"}
    (machine / NET / "usb0").rename(tmp_path / "usb0")
    assert seen(netclass, machine) == {"lo", "eth0", "veth1"}


def test_a_name_that_is_no_text_is_escaped(tmp_path: Path, netclass: Netclass) -> None:
    machine = lay_out(tmp_path / "machine")
    odd = os.fsdecode(b"\xff0")
    lay_out(machine, devices(**{odd: "ifindex=12"}))
    assert seen(netclass, machine) == {"lo", "eth0", "usb0", "\\xff0"}


def test_a_host_without_devices_is_an_error(tmp_path: Path, netclass: Netclass) -> None:
    (tmp_path / NET).mkdir(parents=True)
    with pytest.raises(OSError, match=f"no network device in {tmp_path}/sys/class/net"):
        list(netclass.points(read(tmp_path), 0.0))


def test_a_device_that_does_not_answer_is_left_out_and_waited_for_once(
    tmp_path: Path, netclass: Netclass, story: CapturedLog
) -> None:
    machine = lay_out(tmp_path / "machine")
    speed = machine / NET / "eth0/speed"
    speed.unlink()
    os.mkfifo(speed)  # who reads it waits until somebody writes
    try:
        assert seen(netclass, machine) == {"lo", "usb0"}
        begin = time.monotonic()
        for _ in range(20):
            assert seen(netclass, machine) == {"lo", "usb0"}
        # Waited for each time, it would be a second or more each.
        assert time.monotonic() - begin < 15
        (line,) = story.lines_with("can't read from host")
        assert (line["device"], line["reason"]) == ("eth0", "it did not answer in time")
    finally:
        writer = os.open(speed, os.O_RDWR)
        speed.unlink()
        speed.write_text("1000\n")
        os.close(writer)
    assert eventually(lambda: "eth0" in seen(netclass, machine))
    assert eventually(lambda: story.lines_with("can read from host again"))
