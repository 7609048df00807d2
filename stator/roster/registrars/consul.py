"""Consul's agent as a registrar.

https://developer.hashicorp.com/consul/api-docs/agent/service
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote

from attrs import frozen

from stator.client import ClientError
from stator.launch.duration import Duration
from stator.launch.settings import LONGER_THAN_ZERO, Secret, setting
from stator.roster.service import RegistrarError, Service


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
        level: str = "info",
    ) -> object:
        """Sends a request and waits for a good answer; raises where there is none."""


@frozen
class Config:
    """How Consul watches the service."""

    check_interval: Duration = setting(Duration.parse("1m"), desc="health check period", check=LONGER_THAN_ZERO)
    check_timeout: Duration = setting(Duration.parse("10s"), desc="health check timeout", check=LONGER_THAN_ZERO)
    deregister_after: Duration = setting(Duration.parse("30m"), desc="deregister after failed check period")
    token: Secret = setting(Secret(), desc="ACL token")

    def new(self, client: Client) -> "Consul":
        """A registrar that reaches the agent through a client."""
        return Consul(self, client)


@frozen
class Consul:
    """Registers a service with an agent.

    The check starts as passing: the roster registers only what answers already.
    """

    config: Config
    client: Client

    def register(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Registers a service, or what changed of it.

        Raises:
            RegistrarError: The agent did not take it.
        """
        path, payload = "/v1/agent/service/register", _registration(service, self.config)
        with _refusals():
            self.client.send("PUT", path, payload, headers=self._token(), timeout=timeout, level=level)

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Takes a service out.

        Raises:
            RegistrarError: The agent did not do it.
        """
        path = f"/v1/agent/service/deregister/{quote(service.id, safe='')}"
        with _refusals():
            self.client.send("PUT", path, headers=self._token(), timeout=timeout, level=level)

    def _token(self) -> dict[str, str]:
        token = self.config.token.reveal()
        return {"X-Consul-Token": token} if token else {}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise RegistrarError(str(error)) from error


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
