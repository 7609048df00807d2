"""What protocols count, in files whose names stand in one line and whose values in another, and their sockets."""

import re
from pathlib import Path

import pytest

from stator.collectors.host.config import NetstatConfig
from stator.collectors.host.protocols import Netstat, sockstat
from stator.processes.procfs import PAGE
from tests.collectors.host.machine import FILES, lay_out, read, values

NETSTAT = FILES["proc/net/netstat"]


def chosen(folder: Path, pattern: str = "") -> dict[str, int]:
    """What the fields that match are, of a machine that was laid out in a folder."""
    return values(Netstat(re.compile(pattern)).points(read(folder), 0.0))


def test_counts_are_of_no_type_that_prometheus_knows(tmp_path: Path) -> None:
    points = list(Netstat(re.compile("")).points(read(lay_out(tmp_path)), 0.0))
    assert {point.type for point in points} == {"unknown"}


def test_fields_that_dashboards_ask_for_are_the_default(tmp_path: Path) -> None:
    found = chosen(lay_out(tmp_path), NetstatConfig().fields)
    assert {name.removeprefix("node_netstat_"): value for name, value in found.items()} == {
        "TcpExt_SyncookiesSent": 1,
        "TcpExt_SyncookiesRecv": 2,
        "TcpExt_SyncookiesFailed": 3,
        "TcpExt_ListenOverflows": 4,
        "TcpExt_ListenDrops": 5,
        "TcpExt_TCPTimeouts": 6,
        "TcpExt_TCPOFOQueue": 7,
        "TcpExt_TCPSynRetrans": 8,
        "TcpExt_TCPRcvQDrop": 9,
        "IpExt_InOctets": 17013889128,
        "IpExt_OutOctets": 6548627092,
        "Ip_Forwarding": 2,
        "Icmp_InMsgs": 206,
        "Icmp_InErrors": 1,
        "Icmp_OutMsgs": 204,
        "Tcp_ActiveOpens": 8501086,
        "Tcp_PassiveOpens": 666189,
        "Tcp_CurrEstab": 3,
        "Tcp_InSegs": 39412924,
        "Tcp_OutSegs": 39299756,
        "Tcp_RetransSegs": 2790,
        "Tcp_InErrs": 0,
        "Tcp_OutRsts": 7854140,
        "Udp_InDatagrams": 7962,
        "Udp_NoPorts": 204,
        "Udp_InErrors": 9,
        "Udp_OutDatagrams": 8370,
        "Udp_RcvbufErrors": 10,
        "Udp_SndbufErrors": 11,
        "UdpLite_InErrors": 12,
        "Ip6_InOctets": 12372,
        "Ip6_OutOctets": 13276,
        "Icmp6_InMsgs": 2,
        "Icmp6_InErrors": 1,
        "Icmp6_OutMsgs": 11,
        "Udp6_InDatagrams": 14,
        "Udp6_NoPorts": 16,
        "Udp6_InErrors": 17,
        "Udp6_OutDatagrams": 18,
        "Udp6_RcvbufErrors": 19,
        "Udp6_SndbufErrors": 20,
        "UdpLite6_InErrors": 15,
    }


def test_a_number_may_be_negative(tmp_path: Path) -> None:
    assert chosen(lay_out(tmp_path), "^Tcp_MaxConn$") == {"node_netstat_Tcp_MaxConn": -1}


def test_a_protocol_ends_with_its_first_6(tmp_path: Path) -> None:
    machine = lay_out(tmp_path, {"proc/net/snmp6": "Ip6In6Octets 7\n"})
    assert chosen(machine, "^Ip6_") == {"node_netstat_Ip6_In6Octets": 7}


def test_fields_are_found_again_where_they_have_moved(tmp_path: Path) -> None:
    netstat = Netstat(re.compile("^IpExt_InOctets$"))
    for count, names in enumerate(("InOctets OutOctets", "InNew InOctets", "InOctets")):
        numbers = " ".join(str(count) if name == "InOctets" else "9" for name in names.split())
        lay_out(tmp_path, {"proc/net/netstat": f"IpExt: {names}\nIpExt: {numbers}\n"})
        assert values(netstat.points(read(tmp_path), 0.0)) == {"node_netstat_IpExt_InOctets": count}


def test_without_ipv6_the_rest_is_there(tmp_path: Path) -> None:
    machine = lay_out(tmp_path, {"proc/net/snmp6": None, "proc/net/sockstat6": None})
    found = chosen(machine)
    assert "node_netstat_Tcp_InSegs" in found
    assert not any("6_" in name for name in found)
    assert "node_sockstat_TCP_inuse" in values(sockstat(read(machine), 0.0))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("TcpExt: A B\nTcpExt: 1\n", "/proc/net/netstat: 2 names, 1 values: b'TcpExt: A B'"),
        (f"{NETSTAT}IpExt: A\n", "1 names, 0 values: b'IpExt: A'"),
        ("TcpExt: A\nTcpExt: many\n", "many"),
    ],
)
def test_values_that_do_not_fit_their_names_are_an_error(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        chosen(lay_out(tmp_path, {"proc/net/netstat": text}))


def test_sockets_by_state_and_their_memory(tmp_path: Path) -> None:
    points = list(sockstat(read(lay_out(tmp_path)), 0.0))
    assert {point.type for point in points} == {"gauge"}
    assert {name.removeprefix("node_sockstat_"): value for name, value in values(points).items()} == {
        "sockets_used": 229,
        "TCP_inuse": 4,
        "TCP_orphan": 1,
        "TCP_tw": 5,
        "TCP_alloc": 17,
        "TCP_mem": 3,
        "TCP_mem_bytes": 3 * PAGE,
        "UDP_inuse": 2,
        "UDP_mem": 0,
        "UDP_mem_bytes": 0,
        "UDPLITE_inuse": 0,
        "RAW_inuse": 0,
        "FRAG_inuse": 0,
        "FRAG_memory": 6,
        "TCP6_inuse": 17,
        "UDP6_inuse": 9,
        "UDPLITE6_inuse": 0,
        "RAW6_inuse": 1,
        "FRAG6_inuse": 0,
        "FRAG6_memory": 7,
    }


@pytest.mark.parametrize("line", ["TCP: inuse", "TCP: inuse many", "sockets: free 5"])
def test_sockets_that_are_not_counted_are_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        list(sockstat(read(lay_out(tmp_path, {"proc/net/sockstat": f"{line}\n"})), 0.0))
