"""What is registered: the service, and where it can be reached."""

import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from attrs import frozen

from stator.launch.settings import setting

MONITOR_SPEC = "http://%s:%d/monitor"
LOOKUP = "lookup"
# An address that is never used but for asking the kernel which of ours it would use toward the outside:
# https://www.rfc-editor.org/rfc/rfc5737 (documentation range). Nothing is sent.
ELSEWHERE = ("192.0.2.1", 9)


@frozen
class Config:
    """How the service is known to the discovery service."""

    id: str = setting("", desc="unique to service id; unset: {hostname}-{port}")
    name: str = setting("stator", desc="name")
    tags: tuple[str, ...] = setting((), desc="tags")
    meta: tuple[tuple[str, str], ...] = setting((), desc="metadata")
    ip_address: str = setting(
        LOOKUP, desc="ip address of service; lookup: the one bound, or that this host uses toward the discovery service"
    )
    monitor_spec: str = setting(MONITOR_SPEC, desc="specifier for monitor endpoint uri")

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with single settings beyond their type."""
        if not self.name:
            yield "name", "a name"
        if not self.ip_address:
            yield "ip_address", f"an address, or {LOOKUP}"
        if not _is_monitor_spec(self.monitor_spec):
            yield "monitor_spec", f"a URL with %s for the address and %d for the port, such as {MONITOR_SPEC}"

    def monitor_url(self, address: str, port: int) -> str:
        """Where the health of a service at an address can be asked."""
        return _filled(self.monitor_spec, address, port)

    def new(self, port: int, discovery_uri: str, host: str = "") -> "Service":
        """The service as it is registered.

        Args:
            port: Port on which it listens.
            discovery_uri: Base URI of the discovery service, or empty.
            host: The only address at which it listens, or empty where it listens at all of this host's.

        Raises:
            OSError: The address can't be looked up.
        """
        address = (host or look_up(discovery_uri)) if self.ip_address == LOOKUP else self.ip_address
        own = self.id or f"{socket.gethostname()}-{port}"
        return Service(
            id=f"{self.name}-{own}",
            name=self.name,
            tags=self.tags,
            meta=self.meta,
            address=address,
            port=port,
            monitor_url=self.monitor_url(address, port),
        )


@frozen
class Service:
    """One instance of a service.

    Attributes:
        id: Unique among all instances: ``stator-123654``.
        name: What it is an instance of.
        tags: Words by which it can be found.
        meta: (key, value) pairs.
        address: IP address or host name at which others reach it.
        port: Port on which it listens.
        monitor_url: Where its health can be asked.
    """

    id: str
    name: str
    tags: tuple[str, ...]
    meta: tuple[tuple[str, str], ...]
    address: str
    port: int
    monitor_url: str


def look_up(discovery_uri: str) -> str:
    """The address of ours that the kernel would use toward the discovery service; nothing is sent.

    Raises:
        OSError: The discovery service's name can't be resolved, or there is no route.
    """
    uri = urlsplit(discovery_uri)
    targets = (
        socket.getaddrinfo(uri.hostname, uri.port or 80, type=socket.SOCK_DGRAM)
        if uri.hostname
        else [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", ELSEWHERE)]
    )
    family, kind, protocol, _, address = targets[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _filled(spec: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    verbs = {"%s": host, "%d": str(port), "%%": "%"}
    return re.sub("%[sd%]", lambda verb: verbs[verb[0]], spec)


def _is_monitor_spec(spec: str) -> bool:
    """Whether a specifier has one of each of the two verbs, no other of Go's, and makes a URL."""
    if re.findall("%(?!%)(.?)", spec.replace("%%", "")) != ["s", "d"]:
        return False
    try:
        url = urlsplit(_filled(spec, "127.0.0.1", 8087))
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
    return good
