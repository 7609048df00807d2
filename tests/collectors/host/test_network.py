"""Network devices, which come and go."""

import re
from pathlib import Path

from stator.collectors.host.network import netdev
from tests.collectors.host.machine import FILES, lay_out, read, values

DEV = FILES["proc/net/dev"]
NOTHING = re.compile("(?!)")


def test_each_column_is_a_family(tmp_path: Path) -> None:
    found = values(netdev(NOTHING, read(lay_out(tmp_path)), 0.0))
    of_lo = {name.split()[0]: value for name, value in found.items() if name.endswith(" lo")}
    assert of_lo == {
        "node_network_receive_bytes_total": 1664039048,
        "node_network_receive_packets_total": 1566805,
        "node_network_receive_errs_total": 1,
        "node_network_receive_drop_total": 2,
        "node_network_receive_fifo_total": 3,
        "node_network_receive_frame_total": 4,
        "node_network_receive_compressed_total": 5,
        "node_network_receive_multicast_total": 6,
        "node_network_receive_nohandler_total": 13,
        "node_network_transmit_bytes_total": 1664039049,
        "node_network_transmit_packets_total": 1566806,
        "node_network_transmit_errs_total": 7,
        "node_network_transmit_drop_total": 8,
        "node_network_transmit_fifo_total": 9,
        "node_network_transmit_colls_total": 10,
        "node_network_transmit_carrier_total": 11,
        "node_network_transmit_compressed_total": 12,
    }


def test_a_number_may_follow_a_name_without_a_space(tmp_path: Path) -> None:
    found = values(netdev(NOTHING, read(lay_out(tmp_path)), 0.0))
    assert found["node_network_receive_bytes_total eth0"] == 68210035552


def test_the_name_of_an_alias_has_colons(tmp_path: Path) -> None:
    found = values(netdev(NOTHING, read(lay_out(tmp_path, {"proc/net/dev": f"{DEV}eth0:1: 7 8\n"})), 0.0))
    assert found["node_network_receive_packets_total eth0:1"] == 8


def test_a_device_that_vanishes_while_it_is_read_has_what_was_read(tmp_path: Path) -> None:
    machine = lay_out(tmp_path, {"sys/class/net/eth0/statistics/rx_nohandler": None})
    found = values(netdev(NOTHING, read(machine), 0.0))
    assert found["node_network_receive_packets_total eth0"] == 520993275
    assert "node_network_receive_nohandler_total eth0" not in found


def test_devices_come_and_go_and_filters_hold(tmp_path: Path) -> None:
    excluded, machine = re.compile("^veth"), lay_out(tmp_path)
    seen = []
    for more in ("", "veth1: 1\nwlan0: 1\n", ""):
        lay_out(tmp_path, {"proc/net/dev": DEV + more})
        found = values(netdev(excluded, read(machine), 0.0))
        seen.append({name.split()[1] for name in found})
    assert seen == [{"lo", "eth0"}, {"lo", "eth0", "wlan0"}, {"lo", "eth0"}]
