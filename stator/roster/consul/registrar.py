"""Consul's agent as a registrar.

https://developer.hashicorp.com/consul/api-docs/agent/service
"""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from math import ceil
from typing import Any, Literal
from urllib.parse import quote

from attrs import define, field, frozen

from stator.client.client import ClientError
from stator.client.headers import HEADER_PAIRS, HEADER_SYNTAX, header_pairs, is_header
from stator.log.logger import Log
from stator.roster.consul.agent import Agent, Client
from stator.roster.consul.diff import differences, wanted_checks
from stator.roster.consul.payload import (
    for_the_log,
    http_check,
    http_check_id,
    registration,
    ttl_check,
    ttl_check_id,
)
from stator.roster.heartbeat import Health, Heartbeat, Monitor
from stator.roster.registrar import Observation
from stator.roster.service import Service
from stator.settings.declare import REDACTED, Constraint, Secret, positive, setting
from stator.settings.duration import LONGEST, Duration

# What Consul keeps of a check's output:
# https://developer.hashicorp.com/consul/docs/services/configuration/checks-configuration-reference
MAX_OUTPUT = 4096


def _hidden_values(_config: object, words: tuple[str, ...]) -> list[str]:
    """Header pairs as they are shown: without values, since all that is sent to a check may be a key to it."""
    return [word if at % 2 == 0 else REDACTED for at, word in enumerate(words)]


ENTERPRISE_NAME = Constraint(
    "a name of letters, digits and inner dashes, 64 at most",
    lambda name: not name or bool(re.fullmatch("(?!.{65})[A-Za-z0-9]+(-+[A-Za-z0-9]+)*", name)),
)


@frozen
class ConsulConfig:
    """How Consul watches the service."""

    check_interval: Duration = setting(Duration.parse("1m"), desc="health check period", check=positive)
    check_timeout: Duration = setting(Duration.parse("10s"), desc="health check timeout", check=positive)
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
            yield "check_headers", HEADER_SYNTAX

    @property
    def ttl(self) -> Duration:
        """How long a report holds: one that is missed is made good by the next."""
        return Duration(min(LONGEST, 2 * (self.check_interval + self.check_timeout)))

    def registration(self, service: Service) -> dict[str, Any]:
        """What the agent is told of a service."""
        if self.check == "ttl":
            check = ttl_check(service, self.ttl)
        else:
            headers = header_pairs(self.check_headers)
            check = http_check(
                service, self.check_interval, self.check_timeout, headers, skip_verify=self.check_skip_verify
            )
        return registration(service, check, self.deregister_after)

    def heartbeat(self, log: Log) -> Heartbeat | None:
        """What reports health to the agent, where that is not for the agent to ask."""
        if self.check == "http":
            return None
        return Heartbeat(Monitor(self.check_timeout, self.check_headers, log), self.check_interval.seconds, log)

    def build(self, client: Client, heartbeat: Heartbeat | None = None) -> "Consul":
        """A registrar that reaches the agent through a client."""
        places = {"ns": self.namespace, "partition": self.partition}
        agent = Agent(client, self.token, {name: value for name, value in places.items() if value})
        return Consul(self, agent, agent.another(), heartbeat)


@define
class Consul:
    """Registers a service with an agent, and looks how the agent shows it.

    The check starts as passing: the roster registers only what answers already. Where it is registered already, Consul
    keeps the status that it has.

    Attributes:
        agent: What is asked without waiting.
        watched: What is asked to answer when something changed; it can be cut off without the rest.
        heartbeat: What reports health, where the agent does not ask for it.
    """

    config: ConsulConfig
    agent: Agent
    watched: Agent
    heartbeat: Heartbeat | None = None
    # What the agent was given at the last registration.
    _token: str | None = field(default=None, init=False, repr=False)

    def register(
        self, service: Service, *, keep: bool = True, timeout: float | None = None, level: str = "info"
    ) -> None:
        """Registers a service, or what changed of it.

        Args:
            service: What to register.
            keep: Whether checks that are there stay, beside ours; otherwise ours replace them.
            timeout: Longest time in seconds, where it's shorter than the client's.
            level: Level at which it is logged.

        Raises:
            RegistrarError: The agent did not take it.
        """
        path, payload = "/v1/agent/service/register", self.config.registration(service)
        query = {} if keep else {"replace-existing-checks": "true"}
        token = self.config.token.reveal()
        with self.agent.refusals(_right("write", service)):
            self.agent.put(path, payload, query=query, shown=for_the_log(payload), timeout=timeout, level=level)
        self._token = token
        if self.heartbeat is not None:
            self.heartbeat.beat(service, self._report)

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Takes a service out.

        Raises:
            RegistrarError: The agent did not do it.
        """
        if self.heartbeat is not None:
            self.heartbeat.end()
        with self.agent.refusals(_right("write", service)):
            try:
                self.agent.put(
                    f"/v1/agent/service/deregister/{quote(service.id, safe='')}", timeout=timeout, level=level
                )
            except ClientError as error:
                # What an agent with ACLs says of a service that it doesn't have (any more).
                if not _is_unknown(error):
                    raise

    def look(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        """How the agent shows the service.

        Args:
            service: What was registered.
            since: Mark of an earlier sight: the answer comes when that no longer holds, but for checks, which no agent
                can wait for.
            wait: Longest time in seconds to wait for that; the agent adds up to a sixteenth.

        Raises:
            RegistrarError: There is no usable answer.
        """
        with self.watched.refusals(_right("read", service)):
            shown, mark = self._shown(service, since, wait)
            if shown is None:
                return Observation("the agent does not know the service")
            checks = self._checks(service)
        # The operator's: https://developer.hashicorp.com/consul/api-docs/agent/service#enable-maintenance-mode
        keep = f"_service_maintenance:{service.id}" in checks
        return Observation("; ".join(self._wrong(service, shown, checks, keep=keep)), mark, keep)

    def wake(self) -> None:
        """Has a look that waits fail at once, and every later one."""
        self.watched.close()

    def close(self) -> None:
        """Closes all connections."""
        self.watched.close()
        self.agent.close()

    def _wrong(
        self, service: Service, shown: dict[str, Any], checks: Mapping[str, dict[str, Any]], *, keep: bool
    ) -> Iterator[str]:
        wanted = self.config.registration(service)
        yield from differences(wanted, shown, checks)
        # Of an earlier run, which was told to have its health checked the other way.
        other = {http_check_id(service), ttl_check_id(service)} - dict(wanted_checks(wanted)).keys()
        if not keep:
            yield from (f"check {id_} is not wanted any more" for id_ in sorted(other & checks.keys()))
        # The agent tells the servers of us with the token that it was given, which may have been revoked since.
        if self._token is not None and self._token != self.config.token.reveal():
            yield "the token has changed"

    def _shown(self, service: Service, since: str, wait: float) -> tuple[dict[str, Any] | None, str]:
        """The service in the agent's words, or None where it's not registered, and a mark of it."""
        # No wait at all would be taken for the longest.
        query = {"hash": since, "wait": f"{ceil(wait * 1000)}ms"} if since else {}
        path = f"/v1/agent/service/{quote(service.id, safe='')}"
        try:
            shown = self.watched.get(path, query, wait=wait * 17 / 16 if since else 0)
        except ClientError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            if _is_unknown(error):
                return None, ""
            # Agents before 1.3 have no such endpoint, and a proxy may let none through that it does not know.
            return self.watched.get("/v1/agent/services", _filter("ID", service.id)).get(service.id), ""
        mark = shown.get("ContentHash")
        return shown, mark if isinstance(mark, str) else ""

    def _checks(self, service: Service) -> dict[str, dict[str, Any]]:
        """The service's checks, by id."""
        checks = self.watched.get("/v1/agent/checks", _filter("ServiceID", service.id))
        return {id_: check for id_, check in checks.items() if check.get("ServiceID") == service.id}

    def _report(self, service: Service, health: Health) -> None:
        path = f"/v1/agent/check/update/{quote(ttl_check_id(service), safe='')}"
        status = "passing" if health.passing else "critical"
        with self.agent.refusals(_right("write", service)):
            self.agent.put(path, {"Status": status, "Output": health.output[:MAX_OUTPUT]}, level="debug")


def _right(access: str, service: Service) -> str:
    return f'service:{access} on "{service.name}"'


def _is_unknown(error: ClientError) -> bool:
    return b"unknown service" in error.body.lower()


def _filter(name: str, value: str) -> dict[str, str]:
    """The part of a query that has the agent answer with fewer; one before 1.5 answers with all, all the same.

    https://developer.hashicorp.com/consul/api-docs/features/filtering
    """
    return {} if "`" in value else {"filter": f"{name} == `{value}`"}
