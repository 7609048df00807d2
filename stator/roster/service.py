"""The service that is registered, and where it can be reached."""

import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import urlsplit

from attrs import frozen

from stator.settings.declare import between, setting

MONITOR_SPEC = "http://%s:%d/monitor"
LOOKUP = "lookup"
METRICS_PORT, METRICS_SCHEME = "metrics_port", "metrics_scheme"  # keys of the metadata
_ENDPOINT = re.compile(r"(\[(?P<ipv6>[^\]]+)\]|(?P<host>[^\s:/?#@\[\]]+))(:(?P<port>[0-9]{1,5}))?")


class Endpoint(NamedTuple):
    """Where we listen."""

    host: str  # empty: at all addresses of this host
    port: int
    scheme: str = "http"  # what we speak: http or https


@frozen(eq=False, repr=False)
class ServiceConfig:
    """How the service is registered."""

    id: str = setting("", desc="unique to service id; unset: {hostname}-{port}")
    name: str = setting("stator", desc="name")
    tags: tuple[str, ...] = setting((), desc="tags")
    meta: tuple[tuple[str, str], ...] = setting((), desc="metadata")
    ip_address: str = setting(
        LOOKUP, desc="ip address of service; lookup: the one bound, or that this host uses toward the discovery service"
    )
    monitor_spec: str = setting(
        MONITOR_SPEC, desc="specifier for monitor endpoint uri; the default has https where we serve that"
    )
    port: int = setting(
        0, desc="port that is registered, if it is not ours: a wrapped program's; 0: ours", check=between(0, 65535)
    )
    weight_passing: int = setting(1, desc="share of DNS answers while passing", check=between(1, 65535))
    weight_warning: int = setting(1, desc="share of DNS answers while its check warns", check=between(0, 65535))
    tagged_addresses: tuple[tuple[str, str], ...] = setting(
        (), desc="further addresses by who uses them, ex: lan=10.0.0.1:8087,wan=[2001:db8::1]; unset port: ours"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields problems of single settings beyond their type."""
        if not self.name:
            yield "name", "a name"
        if not self.ip_address:
            yield "ip_address", f"an address, or {LOOKUP}"
        if not _is_monitor_spec(self.monitor_spec):
            yield "monitor_spec", f"a URL with %s for the address and %d for the port, such as {MONITOR_SPEC}"
        names = Counter(name for name, _ in self.tagged_addresses)
        if not all(parse_endpoint(text) for _, text in self.tagged_addresses) or names.total() > len(names):
            yield "tagged_addresses", "different names, each with host or host:port, IPv6 as [2001:db8::1]:8087"

    def monitor_url(self, address: str, port: int, scheme: str = "http") -> str:
        """Returns the URL of the health check of a service at an address."""
        # Who serves https at a port can't be asked there by http: the default is no choice of the user's.
        spec = _spec(scheme) if self.monitor_spec == MONITOR_SPEC else self.monitor_spec
        return _filled(spec, address, port)

    def build(
        self, port: int, discovery_uri: str, host: str = "", own_url: str = "", scheme: str = "http"
    ) -> "Service":
        """Returns the service to register, with our port; raises OSError if its address can't be looked up."""
        # Without a host it listens at all addresses of this one.
        address = (host or look_up(discovery_uri)) if self.ip_address == LOOKUP else self.ip_address
        tagged = ((name, parse_endpoint(text)) for name, text in self.tagged_addresses)
        registered = self.port or port
        own_id = self.id or f"{socket.gethostname()}-{registered}"
        # Whoever finds the service scrapes it at this port of the same address, and so.
        metrics = {METRICS_PORT: str(port)} if registered != port else {}
        if scheme != "http":
            metrics[METRICS_SCHEME] = scheme
        return Service(
            id=f"{self.name}-{own_id}",
            name=self.name,
            tags=self.tags,
            meta=tuple({**metrics, **dict(self.meta)}.items()) if metrics else self.meta,
            address=address,
            port=registered,
            monitor_url=self.monitor_url(address, port, scheme),
            own_url=own_url or _filled(_spec(scheme), host or "127.0.0.1", port),
            weights=(self.weight_passing, self.weight_warning),
            tagged_addresses=tuple((name, at[0], at[1] or registered) for name, at in tagged if at),
            metrics_port=port,
            metrics_scheme=scheme,
        )


@frozen
class Service:
    """One instance of a service: all instances have the same name, and each has an id of its own."""

    id: str
    name: str
    tags: tuple[str, ...]
    meta: tuple[tuple[str, str], ...]
    address: str
    port: int
    monitor_url: str  # at which others check its health
    own_url: str = ""  # at which we check it, whatever lies between us and others
    weights: tuple[int, int] = (1, 1)  # shares of DNS answers while passing, and while its check warns
    tagged_addresses: tuple[tuple[str, str, int], ...] = ()  # name, address and port at which others reach it too
    metrics_port: int = 0  # at which /metrics and /monitor answer; 0: `port`
    metrics_scheme: str = "http"  # or https


def look_up(discovery_uri: str) -> str:
    """Returns our address that the kernel would use toward the discovery service; sends nothing; raises OSError."""
    uri = urlsplit(discovery_uri)
    # The address stands for the outside: https://www.rfc-editor.org/rfc/rfc5737
    host, port = (uri.hostname, uri.port or 80) if uri.hostname else ("192.0.2.1", 9)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _spec(scheme: str) -> str:
    """Returns the default specifier."""
    return MONITOR_SPEC.replace("http", scheme, 1)


def _filled(spec: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    verbs = {"%s": host, "%d": str(port), "%%": "%"}
    return re.sub("%[sd%]", lambda verb: verbs[verb[0]], spec)


def parse_endpoint(text: str) -> tuple[str, int | None] | None:
    """Returns host and port of ``host``, ``host:port``, ``[IPv6]`` or ``[IPv6]:port``; None if it is none of these."""
    match = _ENDPOINT.fullmatch(text)
    if not match or not 0 < int(match["port"] or 1) < 65536:
        return None
    try:
        host = str(IPv6Address(match["ipv6"])) if match["ipv6"] else match["host"]
    except ValueError:
        return None
    return host, int(match["port"]) if match["port"] else None


def _is_monitor_spec(spec: str) -> bool:
    """Whether a specifier has `%s` and `%d` once each, no other verb of Go's, and makes a URL."""
    if re.findall("%(?!%)(.?)", spec.replace("%%", "")) != ["s", "d"]:
        return False
    with suppress(ValueError):
        url = urlsplit(_filled(spec, "127.0.0.1", 8087))
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    return False
