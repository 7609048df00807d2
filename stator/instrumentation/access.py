"""The log of an application's requests: one line for each, or two with the headers; never a body."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias
from urllib.parse import parse_qs

import msgspec
from attrs import frozen

from stator.log.logger import Log
from stator.log.redact import redact_headers

LOGGER = "stator.access"
Mode: TypeAlias = Literal["line", "full"]
Headers: TypeAlias = Iterable[tuple[str, str]]


@frozen
class Peer:
    """What a line says of a request, beside its ids."""

    method: str
    path: str
    query: str
    remote_ip: str
    remote_port: str


@frozen
class AccessLog:
    """Logs requests at level info.

    Attributes:
        is_enabled: Whether anybody reads that level now; no line is made for nobody.
        secret_headers: Names of headers that are redacted beside those that always are, in lower case.
    """

    log: Log
    mode: Mode
    is_enabled: Callable[[], bool]
    secret_headers: frozenset[str] = frozenset()

    def log_request(self, peer: Peer, headers: Headers, ids: dict[str, str]) -> None:
        """Logs that a request came, where that has a line of its own."""
        self.log.info(
            "received request",
            **ids,
            method=peer.method,
            path=peer.path,
            query=parse_qs(peer.query, keep_blank_values=True),
            remote_ip=peer.remote_ip,
            remote_port=peer.remote_port,
            headers=self._text(headers),
        )

    def log_response(self, status: int, headers: Headers, elapsed: int, ids: dict[str, str]) -> None:
        """Logs the response, where the request had a line of its own."""
        self.log.info("sending response", **ids, status=status, headers=self._text(headers), elapsed=elapsed)

    def log_exchange(self, peer: Peer, route: str, status: int, elapsed: int, ids: dict[str, str]) -> None:
        """Logs a request and its response in one line."""
        self.log.info(
            "answered request",
            **ids,
            method=peer.method,
            route=route,
            path=peer.path,
            status=status,
            elapsed=elapsed,
            remote_ip=peer.remote_ip,
            remote_port=peer.remote_port,
        )

    def _text(self, headers: Headers) -> str:
        return msgspec.json.encode(redact_headers(headers, self.secret_headers)).decode()
