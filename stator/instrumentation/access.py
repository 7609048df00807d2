"""The log of an application's requests: one line for each, or two with the headers; never a body."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qs

import msgspec
from attrs import frozen

from stator.log.redact import redact_headers

LOGGER = "stator.access"
Mode: TypeAlias = Literal["line", "full"]
Headers: TypeAlias = Iterable[tuple[str, str]]
Write: TypeAlias = Callable[[str, Mapping[str, object]], object]


class Peer(NamedTuple):
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
        info: Logs a message with fields.
        is_enabled: Whether anybody reads that level now; no line is made for nobody.
        secret_headers: Names of headers that are redacted beside those that always are, in lower case.
    """

    info: Write
    mode: Mode
    is_enabled: Callable[[], bool]
    secret_headers: frozenset[str] = frozenset()

    def log_request(self, peer: Peer, headers: Headers, ids: Mapping[str, str]) -> None:
        """Logs that a request came, where that has a line of its own."""
        fields = {
            **ids,
            "method": peer.method,
            "path": peer.path,
            "query": parse_qs(peer.query, keep_blank_values=True),
            "remote_ip": peer.remote_ip,
            "remote_port": peer.remote_port,
            "headers": self._text(headers),
        }
        self._write_for(peer.path)("received request", fields)

    def log_response(self, peer: Peer, status: int, headers: Headers, elapsed: int, ids: Mapping[str, str]) -> None:
        """Logs the response, where the request had a line of its own."""
        fields = {**ids, "status": status, "headers": self._text(headers), "elapsed": elapsed}
        self._write_for(peer.path)("sending response", fields)

    def log_exchange(self, peer: Peer, route: str, status: int, elapsed: int, ids: Mapping[str, str]) -> None:
        """Logs a request and its response in one line."""
        fields = {
            **ids,
            "method": peer.method,
            "route": route,
            "path": peer.path,
            "status": status,
            "elapsed": elapsed,
            "remote_ip": peer.remote_ip,
            "remote_port": peer.remote_port,
        }
        self._write_for(peer.path)("answered request", fields)

    def _write_for(self, _path: str) -> Write:
        """Returns what writes the lines of a path: the place for paths that are logged at another level."""
        return self.info

    def _text(self, headers: Headers) -> str:
        return msgspec.json.encode(redact_headers(headers, self.secret_headers)).decode()
