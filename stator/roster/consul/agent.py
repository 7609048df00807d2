"""Consul's agent as it is spoken to: with our token, in our namespace and partition, and refusals explained.

https://developer.hashicorp.com/consul/api-docs
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlencode

from attrs import evolve, frozen

from stator.client.client import Answer, ClientError
from stator.roster.registrar import Reason, RegistrarError
from stator.settings.declare import Secret

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
        shown: object = None,
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
class Agent:
    """Sends requests to an agent.

    Attributes:
        client: Through what it is reached.
        token: Sent along where it is set.
        places: Where we are within Consul: ``ns`` and ``partition``, as far as they are set.
    """

    client: Client
    token: Secret
    places: Mapping[str, str]

    def another(self) -> "Agent":
        """The same agent through connections of its own, which can be cut without the rest."""
        return evolve(self, client=self.client.another())

    def close(self) -> None:
        """Cuts all connections."""
        self.client.close()

    def put(
        self,
        path: str,
        payload: object = None,
        *,
        query: Mapping[str, str] | None = None,
        shown: object = None,
        timeout: float | None = None,
        level: str = "info",
    ) -> None:
        """Tells the agent something.

        Args:
            path: Path, without a query.
            payload: What to send as JSON; None sends no body.
            query: What the path is asked with.
            shown: What is logged of the payload, where that holds secrets.
            timeout: Longest time in seconds, where it's shorter than the client's.
            level: Level at which it is logged.

        Raises:
            ClientError: There is no good answer.
        """
        whole, headers = self._whole(path, query or {}), ONCE | self._headers()
        self.client.send("PUT", whole, payload, shown=shown, headers=headers, timeout=timeout, level=level)

    def get(self, path: str, query: Mapping[str, str] | None = None, *, wait: float = 0.0) -> dict[str, Any]:
        """Asks the agent for a JSON object, for so many seconds longer than otherwise.

        Raises:
            ClientError: There is no good answer.
            RegistrarError: The answer is something else.
        """
        import orjson  # slow to import

        whole = self._whole(path, query or {})
        answer = self.client.send("GET", whole, headers=self._headers(), wait=wait, level="debug")
        try:
            shown = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            shown = None
        if not isinstance(shown, dict):
            msg = f"GET {path} was answered with what is no JSON object: {answer.body[:80]!r}"
            raise RegistrarError(msg, "invalid")
        return shown

    @contextmanager
    def refusals(self, needs: str) -> Iterator[None]:
        """Has a request that fails within tell the roster why.

        Args:
            needs: The right that the token must have, in Consul's words: ``service:write on "stator"``.

        Raises:
            RegistrarError: A request failed.
        """
        try:
            yield
        except ClientError as error:
            raise RegistrarError(self._refusal(error, needs), _reason(error)) from error

    def _refusal(self, error: ClientError, needs: str) -> str:
        if error.status != HTTPStatus.FORBIDDEN:
            return str(error)
        if b"ACL not found" in error.body:
            return f"Consul knows no such token as STTR_CONSUL_TOKEN gives: {error}"
        who = "the token" if self.token.reveal() else "STTR_CONSUL_TOKEN is not set, and the anonymous token"
        return f"{who} lacks {needs}: {error}"

    def _whole(self, path: str, query: Mapping[str, str]) -> str:
        asked = urlencode({**query, **self.places})
        return f"{path}?{asked}" if asked else path

    def _headers(self) -> dict[str, str]:
        token = self.token.reveal()
        return {"X-Consul-Token": token} if token else {}


def _reason(error: ClientError) -> Reason:
    if error.failing != "status":
        return error.failing
    return "unavailable" if error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else "denied"
