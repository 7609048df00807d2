"""Consul's agent as a registrar.

https://developer.hashicorp.com/consul/api-docs/agent/service
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from attrs import frozen

from stator.client import Answer, ClientError
from stator.launch.duration import Duration
from stator.launch.settings import LONGER_THAN_ZERO, Secret, setting
from stator.roster.registrar import Reason, RegistrarError, Sight
from stator.roster.registrars.comparison import differences
from stator.roster.service import Service

# For what is seldom asked: all that stays open is the connection on which we wait for a change.
ONCE = {"Connection": "close"}


class Client(Protocol):
    """What is needed of an HTTP client."""

    def send(
        self,
        method: str,
        path: str,
        payload: object = None,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        wait: float = 0.0,
        level: str = "info",
    ) -> Answer:
        """Sends a request and waits for a good answer; raises where there is none."""

    def another(self) -> "Client":
        """A client with the same settings, and connections of its own."""

    def close(self) -> None:
        """Cuts all connections, those of other threads too."""


@frozen
class Config:
    """How Consul watches the service."""

    check_interval: Duration = setting(Duration.parse("1m"), desc="health check period", check=LONGER_THAN_ZERO)
    check_timeout: Duration = setting(Duration.parse("10s"), desc="health check timeout", check=LONGER_THAN_ZERO)
    deregister_after: Duration = setting(Duration.parse("30m"), desc="deregister after failed check period")
    token: Secret = setting(Secret(), desc="ACL token")

    def new(self, client: Client) -> "Consul":
        """A registrar that reaches the agent through a client."""
        return Consul(self, client, client.another())


@frozen
class Consul:
    """Registers a service with an agent, and looks how the agent shows it.

    The check starts as passing: the roster registers only what answers already.

    Attributes:
        client: What is asked without waiting.
        watcher: What is asked to answer when something changed; it can be cut off without the rest.
    """

    config: Config
    client: Client
    watcher: Client

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
        path = "/v1/agent/service/register" + ("" if keep else "?replace-existing-checks=true")
        with _refusals():
            payload = _registration(service, self.config)
            self.client.send("PUT", path, payload, headers=ONCE | self._token(), timeout=timeout, level=level)

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Takes a service out.

        Raises:
            RegistrarError: The agent did not do it.
        """
        path = f"/v1/agent/service/deregister/{quote(service.id, safe='')}"
        with _refusals():
            self.client.send("PUT", path, headers=ONCE | self._token(), timeout=timeout, level=level)

    def look(self, service: Service, *, since: str = "", wait: float = 0.0) -> Sight:
        """How the agent shows the service.

        Args:
            service: What was registered.
            since: Mark of an earlier sight: the answer comes when that no longer holds, but for checks, which no agent
                can wait for.
            wait: Longest time in seconds to wait for that; the agent adds up to a sixteenth.

        Raises:
            RegistrarError: There is no usable answer.
        """
        with _refusals():
            shown, mark = self._shown(service, since, wait)
            if shown is None:
                return Sight("the agent does not know the service")
            checks = self._checks(service)
        wrong = "; ".join(differences(_registration(service, self.config), shown, checks))
        # The operator's: https://developer.hashicorp.com/consul/api-docs/agent/service#enable-maintenance-mode
        return Sight(wrong, mark, keep=f"_service_maintenance:{service.id}" in checks)

    def wake(self) -> None:
        """Has a look that waits fail at once, and every later one."""
        self.watcher.close()

    def close(self) -> None:
        """Closes all connections."""
        self.watcher.close()
        self.client.close()

    def _shown(self, service: Service, since: str, wait: float) -> tuple[dict[str, Any] | None, str]:
        """The service in the agent's words, or None where it's not registered, and a mark of it."""
        query = f"?{urlencode({'hash': since, 'wait': f'{wait * 1000:.0f}ms'})}" if since else ""
        try:
            shown = self._get(f"/v1/agent/service/{quote(service.id, safe='')}{query}", wait * 17 / 16 if since else 0)
        except ClientError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            if b"unknown service" in error.body.lower():
                return None, ""
            # Agents before 1.3 have no such endpoint, and a proxy may let none through that it does not know.
            return self._get(f"/v1/agent/services?{_filter('ID', service.id)}").get(service.id), ""
        mark = shown.get("ContentHash")
        return shown, mark if isinstance(mark, str) else ""

    def _checks(self, service: Service) -> dict[str, dict[str, Any]]:
        """The service's checks, by id."""
        checks = self._get(f"/v1/agent/checks?{_filter('ServiceID', service.id)}")
        return {id_: check for id_, check in checks.items() if check.get("ServiceID") == service.id}

    def _get(self, path: str, wait: float = 0.0) -> dict[str, Any]:
        import orjson  # slow to import

        answer = self.watcher.send("GET", path, headers=self._token(), wait=wait, level="debug")
        try:
            shown = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            shown = None
        if not isinstance(shown, dict):
            msg = f"GET {path.partition('?')[0]} was answered with what is no JSON object: {answer.body[:80]!r}"
            raise RegistrarError(msg, "invalid")
        return shown

    def _token(self) -> dict[str, str]:
        token = self.config.token.reveal()
        return {"X-Consul-Token": token} if token else {}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise RegistrarError(str(error), _reason(error)) from error


def _reason(error: ClientError) -> Reason:
    if error.failing != "status":
        return error.failing
    return "unavailable" if error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "denied"


def _filter(field: str, value: str) -> str:
    """The part of a query that has the agent answer with fewer; one before 1.5 answers with all, all the same.

    https://developer.hashicorp.com/consul/api-docs/features/filtering
    """
    return "" if "`" in value else urlencode({"filter": f"{field} == `{value}`"})


def _registration(service: Service, config: Config) -> dict[str, Any]:
    check = {
        "Status": "passing",
        "HTTP": service.monitor_url,
        "Interval": str(config.check_interval),
        "Timeout": str(config.check_timeout),
        "DeregisterCriticalServiceAfter": str(config.deregister_after),
    }
    meta = {"Meta": dict(service.meta)} if service.meta else {}
    return {
        "ID": service.id,
        "Name": service.name,
        "Tags": service.tags,
        **meta,
        "Address": service.address,
        "Port": service.port,
        "Check": check,
    }
