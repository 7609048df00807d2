"""Registers with Consul's agent."""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from attrs import define, evolve, field, frozen

from stator.client.errors import ClientError
from stator.client.headers import HEADER_PAIRS, HEADER_SYNTAX, header_pairs, is_header, redact_pairs
from stator.log.changes import ChangeLog
from stator.log.logger import Log
from stator.roster.consul.agent import AgentClient
from stator.roster.consul.diff import AgentCheck, AgentService, check_id, differences
from stator.roster.consul.payload import http_check, redacted, registration, ttl_check_id
from stator.roster.heartbeat import Health, HealthProbe, Heartbeat
from stator.roster.registrar import Observation
from stator.roster.service import Service
from stator.settings.declare import Constraint, Secret, positive, setting
from stator.settings.duration import LONGEST, Duration
from stator.settings.masking import Mask, mask_uris

if TYPE_CHECKING:
    from stator.client.logged import LoggedClient


ENTERPRISE_NAME = Constraint(
    "a name of letters, digits and inner dashes, 64 at most",
    lambda name: not name or bool(re.fullmatch("(?!.{65})[A-Za-z0-9]+(-+[A-Za-z0-9]+)*", name)),
)


@frozen(eq=False, repr=False)
class ConsulConfig:
    """How Consul watches the service."""

    check_interval: Duration = setting(Duration.parse("1m"), desc="health check period", check=positive)
    check_timeout: Duration = setting(Duration.parse("10s"), desc="health check timeout", check=positive)
    deregister_after: Duration = setting(Duration.parse("30m"), desc="deregister after failed check period")
    token: Secret = setting(Secret(), desc="ACL token")
    check: Literal["http", "ttl"] = setting(
        "http", desc="who checks our health; http: the agent, ttl: we, and report it to the agent"
    )
    check_headers: tuple[str, ...] = setting(
        (),
        desc="header pairs to be sent with every health check: name,value,name,value",
        check=HEADER_PAIRS,
        show=lambda _config, words: redact_pairs(words),
    )
    check_skip_verify: bool = setting(default=False, desc="skip cert verification of health checks over https")
    namespace: str = setting("", desc="namespace (Consul Enterprise)", check=ENTERPRISE_NAME)
    partition: str = setting("", desc="admin partition (Consul Enterprise)", check=ENTERPRISE_NAME)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields check headers that can't be sent."""
        if not all(is_header(*pair) for pair in header_pairs(self.check_headers)):
            yield "check_headers", HEADER_SYNTAX

    @property
    def ttl(self) -> Duration:
        """How long a report is valid: until the one after the next is due, in case one is lost."""
        return Duration(min(LONGEST, 2 * (self.check_interval + self.check_timeout)))

    def registration(self, service: Service) -> dict[str, Any]:
        """Returns the payload that registers a service."""
        if self.check == "ttl":
            check = {"CheckID": ttl_check_id(service), "TTL": str(self.ttl)}
            return registration(service, check, self.deregister_after)
        headers, skip_verify = header_pairs(self.check_headers), self.check_skip_verify
        check = http_check(service, self.check_interval, self.check_timeout, headers, skip_verify=skip_verify)
        return registration(service, check, self.deregister_after)

    def heartbeat(self, log: Log, mask: Mask = mask_uris, headers: Mapping[str, str] | None = None) -> Heartbeat | None:
        """Returns what reports health to the agent, without secrets, unless the agent checks it.

        `headers` are sent with its probes, beside those of the setting.
        """
        if self.check == "http":
            return None
        own = chain.from_iterable((headers or {}).items())
        probe = HealthProbe(self.check_timeout, (*self.check_headers, *own), log, mask)
        return Heartbeat(probe, self.check_interval.seconds, log)

    def build(self, client: "LoggedClient", heartbeat: Heartbeat | None = None) -> "Consul":
        """Returns a registrar that reaches the agent through a client."""
        scope = {"ns": self.namespace, "partition": self.partition}
        agent = AgentClient(client, self.token, {name: value for name, value in scope.items() if value})
        return Consul(self, agent, evolve(agent, client=client.clone()), heartbeat)


@define(eq=False, repr=False)
class Consul:
    """Registers a service with an agent, and observes how the agent reports it."""

    config: ConsulConfig
    agent: AgentClient
    watcher: AgentClient  # sends requests that wait for a change; closing it alone cancels them
    heartbeat: Heartbeat | None = None
    _token: str | None = field(default=None, init=False, repr=False)  # of the last registration
    _distrust: ChangeLog = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        begins = "the agent does not trust our certificate; with STTR_CONSUL_CHECKSKIPVERIFY=true its check need not"
        self._distrust = ChangeLog(self.agent.client.log, "service", begins, "the agent trusts our certificate")

    def register(self, service: Service, *, keep_checks: bool = True, level: str = "info") -> None:
        """Registers a service, or updates its registration; raises RegistrarError."""
        path, payload = "/v1/agent/service/register", self.config.registration(service)
        query = {} if keep_checks else {"replace-existing-checks": "true"}
        token = self.config.token.reveal()
        with self.agent.translated_errors("write", service):
            self.agent.put(path, payload, query=query, log_payload=redacted(payload), level=level)
        self._token = token
        if self.heartbeat is not None:
            self.heartbeat.report_now(service, self._report)

    def unregister(self, service: Service, *, timeout: float | None = None) -> None:
        """Unregisters a service; raises RegistrarError."""
        if self.heartbeat is not None:
            self.heartbeat.stop()
        with self.agent.translated_errors("write", service):
            try:
                self.agent.put(f"/v1/agent/service/deregister/{quote(service.id, safe='')}", timeout=timeout)
            except ClientError as error:
                # An agent with ACLs answers so for a service that it does not have.
                if not _is_unknown(error):
                    raise

    def observe(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        """Returns how the agent reports the service; no agent can wait for a change of checks."""
        with self.watcher.translated_errors("read", service):
            reported = self._service(service, since, wait)
            if reported is None:
                return Observation("the agent does not know the service")
            found = self.watcher.get("/v1/agent/checks", dict[str, AgentCheck], _filter("ServiceID", service.id))
        checks = {id_: check for id_, check in found.items() if check.get("ServiceID") == service.id}
        # The operator's: https://developer.hashicorp.com/consul/api-docs/agent/service#enable-maintenance-mode
        keep = f"_service_maintenance:{service.id}" in checks
        wanted = self.config.registration(service)
        output = checks.get(check_id(wanted), {}).get("Output") or ""
        self._distrust.report(service.id, output if "x509:" in output else None)
        problems = list(differences(wanted, reported, checks))
        if not keep:
            # Of an earlier run with another STTR_CONSUL_CHECK.
            other = {f"service:{service.id}", ttl_check_id(service)} - {check_id(wanted)}
            problems += [f"check {id_} is not wanted any more" for id_ in other & checks.keys()]
        # The agent passes the registration on to the servers with the token of that time, which may be revoked by now.
        if self._token is not None and self._token != self.config.token.reveal():
            problems.append("the token has changed")
        return Observation("; ".join(problems), reported.get("ContentHash", ""), keep)

    def cancel(self) -> None:
        """Cancels a blocked `observe` and makes later ones fail immediately. Thread-safe."""
        self.watcher.client.close()

    def close(self) -> None:
        """Ends the reports of health, which go on if the service stays registered, and closes all connections."""
        if self.heartbeat is not None:
            self.heartbeat.stop()
        self.cancel()
        self.agent.client.close()

    def _service(self, service: Service, since: str, wait: float) -> AgentService | None:
        """Returns the service as the agent reports it, or None if it is not registered."""
        # The agent takes a wait of 0 for its longest.
        query = {"hash": since, "wait": f"{ceil(wait * 1000)}ms"} if since else {}
        path = f"/v1/agent/service/{quote(service.id, safe='')}"
        try:
            return self.watcher.get(path, AgentService, query, long_poll=wait * 17 / 16 if since else 0)
        except ClientError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            if _is_unknown(error):
                return None
        # Agents before 1.3 have no such endpoint, and a proxy may pass only endpoints that it knows.
        filter_ = _filter("ID", service.id)
        reported = self.watcher.get("/v1/agent/services", dict[str, AgentService], filter_).get(service.id)
        # That endpoint can't wait for a change.
        return reported and {**reported, "ContentHash": ""}

    def _report(self, service: Service, health: Health) -> None:
        path = f"/v1/agent/check/update/{quote(ttl_check_id(service), safe='')}"
        # Consul keeps 4096 bytes of the output.
        report = {"Status": "passing" if health.passing else "critical", "Output": health.output[:4096]}
        with self.agent.translated_errors("write", service):
            self.agent.put(path, report, level="debug")


def _is_unknown(error: ClientError) -> bool:
    return b"unknown service" in error.body.lower()


def _filter(name: str, value: str) -> dict[str, str]:
    """Returns a query for fewer entries, which agents before 1.5 ignore; empty if the value can't be quoted."""
    # https://developer.hashicorp.com/consul/api-docs/features/filtering
    return {} if "`" in value else {"filter": f"{name} == `{value}`"}
