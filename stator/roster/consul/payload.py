"""The registration of a service and its check, in the words of the agent's register endpoint."""

from collections.abc import Iterable
from typing import Any

from stator.log.redact import redact_header
from stator.roster.service import Service
from stator.settings.duration import Duration


def ttl_check_id(service: Service) -> str:
    """Returns the id of a TTL check, not that of an HTTP check: Consul 1.8 would continue the old type."""
    return f"service:{service.id}:ttl"


def http_check(
    service: Service, interval: Duration, timeout: Duration, headers: Iterable[tuple[str, str]], *, skip_verify: bool
) -> dict[str, Any]:
    """Returns a check that the agent performs; fields that are not needed are left out, as in the original."""
    check: dict[str, Any] = {"HTTP": service.monitor_url, "Interval": str(interval), "Timeout": str(timeout)}
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    if by_name:
        check["Header"] = by_name
    if skip_verify:
        check["TLSSkipVerify"] = True
    return check


def registration(service: Service, check: dict[str, Any], deregister_after: Duration) -> dict[str, Any]:
    """Returns the whole payload; what is Consul's default is left out, as in the original."""
    # https://developer.hashicorp.com/consul/api-docs/agent/service#register-service
    optional: dict[str, Any] = {}
    if service.meta:
        optional["Meta"] = dict(service.meta)
    if service.weights != (1, 1):
        optional["Weights"] = dict(zip(("Passing", "Warning"), service.weights, strict=True))
    if service.tagged_addresses:
        addresses = {name: {"Address": at, "Port": port} for name, at, port in service.tagged_addresses}
        optional["TaggedAddresses"] = addresses
    return {
        "ID": service.id,
        "Name": service.name,
        "Tags": service.tags,
        **optional,
        "Address": service.address,
        "Port": service.port,
        # As passing: the roster registers only a service that answers. Of an existing check, Consul keeps the status.
        "Check": {"Status": "passing", **check, "DeregisterCriticalServiceAfter": str(deregister_after)},
    }


def redacted(registration: dict[str, Any]) -> dict[str, Any]:
    """Returns a registration without the values of its check's headers that may be secrets."""
    check = registration["Check"]
    headers = {
        name: [redact_header(name, value, frozenset()) for value in values]
        for name, values in check.get("Header", {}).items()
    }
    return registration | {"Check": check | ({"Header": headers} if headers else {})}
