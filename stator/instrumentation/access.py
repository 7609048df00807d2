"""The log of an application's requests: one line for each, or two with the headers; never a body."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec
from attrs import frozen

from stator.log.redact import redact_headers, redact_query
from stator.log.request import is_success
from stator.settings.masking import Mask, mask_uris
from stator.settings.paths import PathSet

LOGGER = "stator.access"
Mode: TypeAlias = Literal["line", "full"]
Headers: TypeAlias = Iterable[tuple[str, str]]
Write: TypeAlias = Callable[[int, str, Mapping[str, object]], object]
Peer: TypeAlias = tuple[str, str, str, str]
"""What a line says of a request, beside its ids: method, path, remote address and remote port."""


@frozen
class AccessLog:
    """Logs requests at level info, and those of quiet paths, if they are answered, at level debug.

    Attributes:
        write: Logs a message with fields at a level of the standard library's.
        is_enabled: Whether anybody reads level info now; no line is made for nobody.
        secret_headers: Names of headers that are redacted beside those that always are, in lower case.
        mask: Masks known secrets in what clients have sent.
    """

    write: Write
    mode: Mode
    is_enabled: Callable[[], bool]
    secret_headers: frozenset[str] = frozenset()
    quiet_paths: PathSet = PathSet()  # noqa: RUF009 # it does not change
    mask: Mask = mask_uris

    def log_request(self, peer: Peer, query: str, headers: Headers, ids: Mapping[str, str], status: int = 0) -> None:
        """Logs that a request came: at once, or with the `status` of its response where the path is quiet."""
        method, path, remote_ip, remote_port = peer
        if (path in self.quiet_paths) != bool(status):
            return
        fields = {
            **ids,
            "method": method,
            "path": self.mask(path),
            "query": redact_query(query),
            "remote_ip": remote_ip,
            "remote_port": remote_port,
            "headers": self._text(headers),
        }
        self.write(self._level(path, status), "received request", fields)

    def log_response(self, peer: Peer, status: int, headers: Headers, elapsed: int, ids: Mapping[str, str]) -> None:
        """Logs the response, where the request has a line of its own."""
        fields = {**ids, "status": status, "headers": self._text(headers), "elapsed": elapsed}
        self.write(self._level(peer[1], status), "sending response", fields)

    def log_exchange(self, peer: Peer, route: str, status: int, elapsed: int, ids: Mapping[str, str]) -> None:
        """Logs a request and its response in one line."""
        method, path, remote_ip, remote_port = peer
        fields = {
            **ids,
            "method": method,
            "route": route,
            "path": self.mask(path),
            "status": status,
            "elapsed": elapsed,
            "remote_ip": remote_ip,
            "remote_port": remote_port,
        }
        self.write(self._level(path, status), "answered request", fields)

    def _level(self, path: str, status: int) -> int:
        return logging.DEBUG if path in self.quiet_paths and is_success(status) else logging.INFO

    def _text(self, headers: Headers) -> str:
        return self.mask(msgspec.json.encode(redact_headers(headers, self.secret_headers)).decode())
