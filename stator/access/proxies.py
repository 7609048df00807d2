"""Who sent a request that a proxy has passed on."""

import re
from collections.abc import Iterable, Iterator, Sequence

from stator.access.networks import Networks, parse_address

# RFC 7239, section 6.2: of a client that a proxy does not name, or that can't be known.
UNKNOWN = "unknown"
# An address with or without a port, as proxies write it.
_NODE = re.compile(r'"?(?:\[(?P<ipv6>[^]]*)\](?::\d+)?|(?P<ipv4>[\d.]+):\d+|(?P<bare>[^"\[\]]*))"?')


class TrustedProxies:
    """The proxies whose headers are believed: ``X-Forwarded-For``, and ``Forwarded`` as RFC 7239 has it."""

    def __init__(self, networks: Networks | None = None) -> None:
        self._networks = networks or Networks()

    def __bool__(self) -> bool:
        return bool(self._networks)

    def client(self, peer: str, forwarded_for: str, forwarded: str) -> str:
        """Returns the address that a request came from: of the last hop that is no trusted proxy.

        Args:
            peer: The address that has connected, empty for a Unix socket.
            forwarded_for: The header ``X-Forwarded-For``, all of them joined by commas.
            forwarded: The header ``Forwarded``, in the same manner.
        """
        if not self._networks or peer not in self._networks:
            return peer
        hops = (_addresses(forwarded_for.split(",")), _addresses(_for_values(forwarded)))
        # A proxy sets one of them, and may pass on what a client has written into the other.
        found = {
            self._last_untrusted(each) for each, text in zip(hops, (forwarded_for, forwarded), strict=True) if text
        }
        if not found:
            return peer
        return found.pop() if len(found) == 1 else UNKNOWN

    def _last_untrusted(self, hops: Sequence[str]) -> str:
        """Returns the last address that no trusted proxy has; the first one if all have."""
        return next((hop for hop in reversed(hops) if hop not in self._networks), hops[0])


def _addresses(nodes: Iterable[str]) -> list[str]:
    return [_address(node.strip()) for node in nodes]


def _address(node: str) -> str:
    found = _NODE.fullmatch(node) if "%" not in node else None  # a zone is known on its own host alone
    try:
        return str(parse_address(found["ipv6"] or found["ipv4"] or found["bare"] or "")) if found else UNKNOWN
    except ValueError:
        return UNKNOWN


def _for_values(forwarded: str) -> Iterator[str]:
    """Yields what each proxy says of the one from whom it got the request."""
    for element in forwarded.split(","):
        pairs = (pair.partition("=") for pair in element.split(";"))
        yield next((value for name, _, value in pairs if name.strip().lower() == "for"), UNKNOWN)
