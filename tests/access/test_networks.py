from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stator.access.networks import Networks, are_networks
from stator.access.proxies import TrustedProxies

PROXIES = TrustedProxies(Networks(["10.0.0.1", "10.1.0.0/16", "::1", "unix"]))


@pytest.mark.parametrize(
    ("networks", "address", "is_in"),
    [
        (["10.0.0.0/8"], "10.255.0.1", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.5"], "::ffff:10.0.0.5", True),
        (["10.0.0.5"], "::10.0.0.5", False),
        (["fd00::/8"], "fd12::1", True),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["0.0.0.0/0"], "::1", False),
        (["0.0.0.0/0", "::/0"], "unknown", False),
        (["0.0.0.0/0"], "", False),
        (["unix"], "", True),
        (["unix"], "127.0.0.1", False),
        ([], "127.0.0.1", False),
    ],
)
def test_knows_which_addresses_are_in_it(networks: list[str], address: str, is_in: bool) -> None:
    assert (address in Networks(networks)) == is_in


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0", "localhost", "10.0.0.0/33", "*", "::/129", "unix/8"])
def test_refuses_what_is_no_network(text: str) -> None:
    assert not are_networks.holds(("127.0.0.1", text))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "forwarded", "client"),
    [
        # Whoever is no trusted proxy can write what it wants.
        ("192.0.2.7", "198.51.100.1", "for=198.51.100.2", "192.0.2.7"),
        ("10.0.0.1", "", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "", "198.51.100.1"),
        ("", "198.51.100.1", "", "198.51.100.1"),
        ("::1", "198.51.100.1", "", "198.51.100.1"),
        # What stands before the first untrusted hop from the right is the client's own.
        ("10.0.0.1", "127.0.0.1, 198.51.100.1", "", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.1.2.3, 10.0.0.1", "", "198.51.100.1"),
        ("10.0.0.1", "10.1.2.3, 10.1.2.4", "", "10.1.2.3"),
        ("10.0.0.1", "127.0.0.1, gibberish", "", "unknown"),
        ("10.0.0.1", "127.0.0.1,", "", "unknown"),
        ("10.0.0.1", "fe80::1%anything", "", "unknown"),
        ("10.0.0.1", "198.51.100.1:4711", "", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:4711", "", "2001:db8::1"),
        ("10.0.0.1", "2001:DB8::1", "", "2001:db8::1"),
        ("10.0.0.1", "::ffff:198.51.100.1", "", "198.51.100.1"),
        ("10.0.0.1", "", "for=198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "", 'For="[2001:db8::1]:4711";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("10.0.0.1", "", "for=127.0.0.1, proto=http; for=198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "", 'for="127.0.0.1, for=198.51.100.1', "198.51.100.1"),
        ("10.0.0.1", "", "for=127.0.0.1, for=_hidden", "unknown"),
        ("10.0.0.1", "", "for=unknown", "unknown"),
        ("10.0.0.1", "", "proto=https", "unknown"),
        # A proxy sets one of the two, and may pass on what a client has written into the other.
        ("10.0.0.1", "198.51.100.1", "for=198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1", "for=127.0.0.1", "unknown"),
    ],
)
def test_finds_the_client_behind_trusted_proxies(peer: str, forwarded_for: str, forwarded: str, client: str) -> None:
    assert PROXIES.client(peer, forwarded_for, forwarded) == client


@given(st.text(), st.text())
def test_a_client_is_an_address_or_unknown_whatever_headers_say(forwarded_for: str, forwarded: str) -> None:
    client = PROXIES.client("10.0.0.1", forwarded_for, forwarded)
    assert client == "unknown" or str(ip_address(client)) == client


def test_believes_no_header_where_no_proxy_is_trusted() -> None:
    assert TrustedProxies().client("10.0.0.1", "198.51.100.1", "") == "10.0.0.1"
