"""What an agent is told of a service and its check, in the words of its register endpoint.

https://developer.hashicorp.com/consul/api-docs/agent/service#register-service
"""

from collections.abc import Iterable
from typing import Any

from stator.roster.service import Service
from stator.settings.declare import REDACTED
from stator.settings.duration import Duration


def http_check_id(service: Service) -> str:
    """What the agent itself calls a service's only check."""
    return f"service:{service.id}"


def ttl_check_id(service: Service) -> str:
    """What we call a TTL check.

    Not the same as an HTTP check: Consul 1.8 goes on with that when a TTL check takes its id, and with a TTL when an
    HTTP check does.
    """
    return f"service:{service.id}:ttl"


def http_check(
    service: Service, interval: Duration, timeout: Duration, headers: Iterable[tuple[str, str]], *, skip_verify: bool
) -> dict[str, Any]:
    """A check for which the agent asks; with no more than the original sends, where no more is wanted."""
    asked: dict[str, Any] = {"HTTP": service.monitor_url, "Interval": str(interval), "Timeout": str(timeout)}
    sent: dict[str, list[str]] = {}
    for name, value in headers:
        sent.setdefault(name, []).append(value)
    if sent:
        asked["Header"] = sent
    if skip_verify:
        asked["TLSSkipVerify"] = True
    return asked


def ttl_check(service: Service, ttl: Duration) -> dict[str, Any]:
    """A check of which the agent is told, before each such time has passed."""
    return {"CheckID": ttl_check_id(service), "TTL": str(ttl)}


def registration(service: Service, check: dict[str, Any], deregister_after: Duration) -> dict[str, Any]:
    """The whole of it; what is Consul's own default is left out, as the original does."""
    more: dict[str, Any] = {}
    if service.meta:
        more["Meta"] = dict(service.meta)
    if service.weights != (1, 1):
        more["Weights"] = dict(zip(("Passing", "Warning"), service.weights, strict=True))
    if service.tagged_addresses:
        more["TaggedAddresses"] = {name: {"Address": at, "Port": port} for name, at, port in service.tagged_addresses}
    return {
        "ID": service.id,
        "Name": service.name,
        "Tags": service.tags,
        **more,
        "Address": service.address,
        "Port": service.port,
        "Check": {"Status": "passing", **check, "DeregisterCriticalServiceAfter": str(deregister_after)},
    }


def for_the_log(registration: dict[str, Any]) -> dict[str, Any]:
    """A registration without the values of its check's headers: all that a check sends may be a key to us."""
    check = registration["Check"]
    hidden = {"Header": {name: [REDACTED] for name in check["Header"]}} if "Header" in check else {}
    return registration | {"Check": check | hidden}
