"""Consul's limits: a service that it would refuse every time is refused at the start."""

import re
from collections.abc import Iterator
from ipaddress import ip_address

from stator.roster.service import ServiceConfig, parse_endpoint

# Consul's router cleans each path, so that it registers such an id, and then answers for another id or endpoint:
# https://pkg.go.dev/net/http#ServeMux
_UNREACHABLE = re.compile(r"(.*/)?\.{0,2}/.*|.*/\.{1,2}|(maintenance|deregister)/.*")
REACHABLE = "printable, and without //, /./ or /../: Consul can't look up or deregister such an id"
# https://github.com/hashicorp/consul/blob/v1.8.7/agent/structs/structs.go
_META_KEY = re.compile(r"(?!consul-)[A-Za-z0-9_-]{1,128}")
MAX_META, MAX_META_VALUE = 64, 512
META = (
    f"at most {MAX_META} pairs for Consul, each with a key of 1 to 128 letters, digits, dashes and underscores "
    f"that does not begin with consul-, and a value of at most {MAX_META_VALUE} bytes"
)
IP_VERSIONS = {"lan_ipv4": 4, "wan_ipv4": 4, "lan_ipv6": 6, "wan_ipv6": 6}


def service_problems(service: ServiceConfig) -> Iterator[tuple[str, str]]:
    """The settings of a service that Consul refuses, each with what it accepts."""
    if not _is_reachable(f"{service.name}-"):
        yield "name", f"a name that is {REACHABLE}, nor one that begins with / or maintenance/ or deregister/"
    elif not _is_reachable(f"{service.name}-{service.id}"):
        yield "id", f"an id that is {REACHABLE}"
    if service.ip_address in ("0.0.0.0", "::", "[::]"):
        yield "ip_address", "an address at which others reach the service, which Consul requires"
    if not _is_meta(dict(service.meta)):
        yield "meta", META
    by_version = [(IP_VERSIONS[name], text) for name, text in service.tagged_addresses if name in IP_VERSIONS]
    if not all(_is_ip(text, version) for version, text in by_version):
        yield "tagged_addresses", "IPv4 addresses for lan_ipv4 and wan_ipv4, IPv6 addresses for lan_ipv6 and wan_ipv6"


def _is_reachable(id_: str) -> bool:
    return id_.isprintable() and not _UNREACHABLE.fullmatch(id_)


def _is_meta(meta: dict[str, str]) -> bool:
    lengths = (len(value.encode(errors="replace")) for value in meta.values())
    return len(meta) <= MAX_META and all(map(_META_KEY.fullmatch, meta)) and max(lengths, default=0) <= MAX_META_VALUE


def _is_ip(text: str, version: int) -> bool:
    endpoint = parse_endpoint(text)
    try:
        return endpoint is not None and ip_address(endpoint[0]).version == version
    except ValueError:
        return False
