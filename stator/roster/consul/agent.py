"""Requests to Consul's agent: with our token, in our namespace and partition, and with refusals explained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import msgspec
from attrs import frozen

from stator.client.errors import ClientError
from stator.roster.registrar import Reason, RegistrarError
from stator.roster.service import Service
from stator.settings.declare import Secret

if TYPE_CHECKING:
    from stator.client.logged import LoggedClient

T = TypeVar("T")

# PUTs are rare: the only connection that stays open is the one that waits for a change.
CLOSE = {"Connection": "close"}


@frozen(eq=False, repr=False)
class AgentClient:
    """Sends requests to an agent, with a token, and with ``ns`` and ``partition`` as far as `scope` has them."""

    client: "LoggedClient"
    token: Secret
    scope: Mapping[str, str]

    def put(
        self,
        path: str,
        payload: object = None,
        *,
        query: Mapping[str, str] | None = None,
        log_payload: object = None,
        timeout: float | None = None,
        level: str = "info",
    ) -> None:
        """Sends a PUT, as `LoggedClient.send` does; raises ClientError."""
        url, headers = self._url(path, query or {}), CLOSE | self._headers()
        self.client.send("PUT", url, payload, log_payload=log_payload, headers=headers, timeout=timeout, level=level)

    def get(self, path: str, type_: type[T], query: Mapping[str, str] | None = None, *, long_poll: float = 0.0) -> T:
        """Returns the answer to a GET as a type with its fields alone; raises ClientError or RegistrarError."""
        url = self._url(path, query or {})
        response = self.client.send("GET", url, headers=self._headers(), long_poll=long_poll, level="debug")
        try:
            return msgspec.json.decode(response.body, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            msg = f"GET {path} was answered with {self.client.excerpt(response.body, 80)!r}: {error}"
            raise RegistrarError(msg, "invalid") from error

    @contextmanager
    def translated_errors(self, access: str, service: Service) -> Iterator[None]:
        """Raises a RegistrarError for each ClientError within; `access` is what it takes: ``read`` or ``write``."""
        try:
            yield
        except ClientError as error:
            raise RegistrarError(self._explain(error, access, service), _reason(error)) from error

    def _explain(self, error: ClientError, access: str, service: Service) -> str:
        if error.status != HTTPStatus.FORBIDDEN:
            return str(error)
        if b"ACL not found" in error.body:
            return f"Consul has no such token as STTR_CONSUL_TOKEN: {error}"
        token = "the token" if self.token.reveal() else "STTR_CONSUL_TOKEN is not set, and the anonymous token"
        return f'{token} lacks service:{access} on "{service.name}": {error}'

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        encoded = urlencode({**query, **self.scope})
        return f"{path}?{encoded}" if encoded else path

    def _headers(self) -> dict[str, str]:
        token = self.token.reveal()
        return {"X-Consul-Token": token} if token else {}


def _reason(error: ClientError) -> Reason:
    if error.kind != "status":
        return error.kind
    return "unavailable" if error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "denied"
