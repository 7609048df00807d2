"""Sets of addresses, as settings such as ``STTR_SERVER_ALLOW`` name them."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from stator.settings.declare import Constraint

UNIX = "unix"  # stands for all that connect by a Unix socket, who have no address


class Networks:
    """Some addresses and networks; an IPv4 address is the same when it comes by an IPv6 socket."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Parses them; raises ValueError where a text is none."""
        texts = list(texts)
        self._has_unix = UNIX in texts
        self._networks = tuple(ip_network(text) for text in texts if text != UNIX)

    def __bool__(self) -> bool:
        return self._has_unix or bool(self._networks)

    def __contains__(self, address: str) -> bool:
        if not address:
            return self._has_unix
        try:
            parsed = parse_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Returns an address, which is an IPv4 address if it is one in an IPv6 address; raises ValueError."""
    address = ip_address(text)
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _are_networks(texts: Iterable[str]) -> bool:
    try:
        Networks(texts)
    except ValueError:
        return False
    return True


are_networks = Constraint("addresses and networks such as 10.0.0.5, 10.0.0.0/8 or fd00::/8, or unix", _are_networks)
