"""Consul's agent as a registrar.

https://developer.hashicorp.com/consul/api-docs/agent/service
"""

import re
from collections.abc import Iterator
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlencode

from attrs import frozen

from stator.client import HEADER_PAIRS, SENDABLE, ClientError, header_pairs, is_header
from stator.launch.duration import LONGEST, Duration
from stator.launch.settings import LONGER_THAN_ZERO, REDACTED, Check, Secret, setting
from stator.log import Log
from stator.roster.heartbeat import Health, Heartbeat, Monitor
from stator.roster.service import RegistrarError, Service

# What Consul keeps of a check's output: https://developer.hashicorp.com/consul/docs/services/configuration/checks-configuration-reference
MAX_OUTPUT = 4096


class Client(Protocol):
    """What is needed of an HTTP client."""

    def send(
        self,
        method: str,
        path: str,
        payload: object = None,
        *,
        shown: object = None,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        level: str = "info",
    ) -> object:
        """Sends a request and waits for a good answer; raises where there is none."""


def _hidden_values(_config: object, words: tuple[str, ...]) -> list[str]:
    """Header pairs as they are shown: without values, since all that is sent to a check may be a key to it."""
    return [word if at % 2 == 0 else REDACTED for at, word in enumerate(words)]


ENTERPRISE_NAME = Check(
    "a name of letters, digits and inner dashes, 64 at most",
    lambda name: not name or bool(re.fullmatch("(?!.{65})[A-Za-z0-9]+(-+[A-Za-z0-9]+)*", name)),
)


@frozen
class Config:
    """How Consul watches the service."""

    check_interval: Duration = setting(Duration.parse("1m"), desc="health check period", check=LONGER_THAN_ZERO)
    check_timeout: Duration = setting(Duration.parse("10s"), desc="health check timeout", check=LONGER_THAN_ZERO)
    deregister_after: Duration = setting(Duration.parse("30m"), desc="deregister after failed check period")
    token: Secret = setting(Secret(), desc="ACL token")
    check: Literal["http", "ttl"] = setting(
        "http", desc="how health is checked; http: the agent asks us, ttl: we ask ourselves and tell the agent"
    )
    check_headers: tuple[str, ...] = setting(
        (),
        desc="header pairs to be sent with every health check: name,value,name,value",
        check=HEADER_PAIRS,
        show=_hidden_values,
    )
    check_skip_verify: bool = setting(default=False, desc="skip cert verification of health checks over https")
    namespace: str = setting("", desc="namespace (Consul Enterprise)", check=ENTERPRISE_NAME)
    partition: str = setting("", desc="admin partition (Consul Enterprise)", check=ENTERPRISE_NAME)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Headers that can't be sent."""
        if not all(is_header(*pair) for pair in header_pairs(self.check_headers)):
            yield "check_headers", SENDABLE

    @property
    def ttl(self) -> Duration:
        """How long a report holds: one that is missed is made good by the next."""
        return Duration(min(LONGEST, 2 * (self.check_interval + self.check_timeout)))

    def heartbeat(self, log: Log) -> Heartbeat | None:
        """What reports health to the agent, where that is not for the agent to ask."""
        if self.check == "http":
            return None
        return Heartbeat(Monitor(self.check_timeout, self.check_headers, log), self.check_interval.seconds, log)

    def new(self, client: Client, heartbeat: Heartbeat | None = None) -> "Consul":
        """A registrar that reaches the agent through a client."""
        return Consul(self, client, heartbeat)


@frozen
class Consul:
    """Registers a service with an agent.

    The check starts as passing: the roster registers only what answers already. Where it is registered already, Consul
    keeps the status that it has.
    """

    config: Config
    client: Client
    heartbeat: Heartbeat | None = None

    def register(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Registers a service, or what changed of it.

        Raises:
            RegistrarError: The agent did not take it.
        """
        payload = _registration(service, self.config)
        self._ask(
            "PUT",
            "/v1/agent/service/register",
            payload,
            # Without it, a check that another configuration left behind would stay.
            query={"replace-existing-checks": "true"},
            needs=f'service:write on "{service.name}"',
            shown=_shown(payload),
            timeout=timeout,
            level=level,
        )
        if self.heartbeat is not None:
            self.heartbeat.beat(service, self._report)

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Takes a service out.

        Raises:
            RegistrarError: The agent did not do it.
        """
        if self.heartbeat is not None:
            self.heartbeat.end()
        path, needs = f"/v1/agent/service/deregister/{quote(service.id, safe='')}", f'service:write on "{service.name}"'
        try:
            self._ask("PUT", path, needs=needs, timeout=timeout, level=level)
        except RegistrarError as error:
            # What an agent with ACLs says of a service that it doesn't have (any more).
            if "unknown service" not in str(error).lower():
                raise

    def _report(self, service: Service, health: Health) -> None:
        path = f"/v1/agent/check/update/{quote(_ttl_check_id(service), safe='')}"
        status = "passing" if health.passing else "critical"
        payload = {"Status": status, "Output": health.output[:MAX_OUTPUT]}
        self._ask("PUT", path, payload, needs=f'service:write on "{service.name}"', level="debug")

    def _ask(
        self,
        method: str,
        path: str,
        payload: object = None,
        *,
        needs: str,
        query: dict[str, str] | None = None,
        shown: object = None,
        timeout: float | None = None,
        level: str = "info",
    ) -> object:
        """Sends a request with our token, into our namespace and partition.

        Args:
            method: HTTP method.
            path: Path without query.
            payload: What to send as JSON; None sends no body.
            needs: The right that a token must have for it, as Consul writes it.
            query: What else the path is asked with.
            shown: What is logged of the payload, where that holds secrets.
            timeout: Longest time in seconds.
            level: Level at which it is logged.

        Raises:
            RegistrarError: There is no good answer.
        """
        token = self.config.token.reveal()
        headers = {"X-Consul-Token": token} if token else {}
        places = {"ns": self.config.namespace, "partition": self.config.partition}
        asked = urlencode((query or {}) | {name: value for name, value in places.items() if value})
        whole = f"{path}?{asked}" if asked else path
        try:
            return self.client.send(method, whole, payload, shown=shown, headers=headers, timeout=timeout, level=level)
        except ClientError as error:
            raise RegistrarError(_refusal(error, needs, has_token=bool(token))) from error


def _refusal(error: ClientError, needs: str, *, has_token: bool) -> str:
    """What an answer says, and what is missing where it refuses a token."""
    if error.status != 403:
        return str(error)
    if "ACL not found" in str(error):
        return f"Consul knows no such token as STTR_CONSUL_TOKEN gives: {error}"
    who = "the token" if has_token else "STTR_CONSUL_TOKEN is not set, and the anonymous token"
    return f"{who} lacks {needs}: {error}"


def _ttl_check_id(service: Service) -> str:
    # Not the one that Consul would give, which is the HTTP check's: Consul 1.8 goes on with an HTTP check when a TTL
    # check takes its id, and with a TTL when an HTTP check does.
    return f"service:{service.id}:ttl"


def _check(service: Service, config: Config) -> dict[str, Any]:
    always = {"Status": "passing", "DeregisterCriticalServiceAfter": str(config.deregister_after)}
    if config.check == "ttl":
        return always | {"CheckID": _ttl_check_id(service), "TTL": str(config.ttl)}
    headers: dict[str, list[str]] = {}
    for name, value in header_pairs(config.check_headers):
        headers.setdefault(name, []).append(value)
    asked = {"HTTP": service.monitor_url, "Interval": str(config.check_interval), "Timeout": str(config.check_timeout)}
    more = ({"Header": headers} if headers else {}) | ({"TLSSkipVerify": True} if config.check_skip_verify else {})
    return always | asked | more


def _registration(service: Service, config: Config) -> dict[str, Any]:
    """A service in Consul's words; only what differs from Consul's own defaults, as the original has it."""
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
        "Check": _check(service, config),
    }


def _shown(registration: dict[str, Any]) -> dict[str, Any]:
    check = registration["Check"]
    hidden = {"Header": {name: [REDACTED] for name in check["Header"]}} if "Header" in check else {}
    return registration | {"Check": check | hidden}
