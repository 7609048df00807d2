"""The client's interface to registrars: JSON, the configured headers, and a log of all requests."""

import time
from collections.abc import Callable, Mapping
from string import punctuation
from urllib.parse import quote, urlsplit

import msgspec
from attrs import evolve, frozen

from stator.client.client import Client, Request, Response
from stator.client.errors import ClientError
from stator.client.headers import is_header
from stator.log.logger import Log, new_id
from stator.log.redact import redact_headers, redact_query

# Parameters of requests to a discovery service whose values are no secrets, and say what was asked.
SHOWN_PARAMETERS = frozenset({"filter", "hash", "ns", "partition", "replace-existing-checks", "wait"})


@frozen(eq=False, repr=False)
class LoggedClient:
    """Sends requests through a client, and logs each request and its response with the same ``request_id``."""

    client: Client
    headers: Callable[[], Mapping[str, str]]  # of every request
    log: Log
    secret_headers: frozenset[str]  # names in lower case
    skip_body: bool

    def clone(self) -> "LoggedClient":
        """Returns a client with the same settings, and connections of its own."""
        return evolve(self, client=self.client.clone())

    def close(self) -> None:
        """Closes all connections: requests of other threads and later ones fail at once."""
        self.client.close()

    def send(
        self,
        method: str,
        path: str,
        payload: object = None,
        *,
        log_payload: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        long_poll: float = 0.0,
        level: str = "info",
    ) -> Response:
        """Sends one request and returns the whole answer; raises ClientError, also for a status of 300 or more.

        The payload is sent as JSON, and `log_payload` logged in its place. `Client.send` explains the times.
        """
        request = self._request(method, path, payload, headers or {})
        log = getattr(self.log.bind(request_id=new_id()), level)
        log(
            "sending request",
            method=method,
            scheme=request.uri.scheme,
            host=request.host,
            path=request.uri.path,
            query=redact_query(request.uri.query, SHOWN_PARAMETERS),
            headers=redact_headers(request.headers.items(), self.secret_headers),
            body=self._loggable(msgspec.json.encode(log_payload) if log_payload else request.body or b""),
        )
        start = time.monotonic_ns()
        try:
            response = self.client.send(request, timeout=timeout, long_poll=long_poll)
        except ClientError as error:
            log("no response", path=request.uri.path, reason=str(error), elapsed=time.monotonic_ns() - start)
            raise
        log(
            "received response",
            path=request.uri.path,
            status=response.status,
            headers=redact_headers(response.headers.items(), self.secret_headers),
            body=self._loggable(response.body),
            elapsed=time.monotonic_ns() - start,
        )
        if response.status >= 300:
            text = self.excerpt(response.body, 200)
            answer = f"was answered with status {response.status}{text and f': {text}'}"
            msg = f"{self.client.mask(str(request))} {answer}"
            raise ClientError(msg, "status", response.status, response.body)
        return response

    def excerpt(self, body: bytes, length: int) -> str:
        """Returns the beginning of an answer's body for an error, without secrets."""
        return self.client.mask(body.decode(errors="replace"))[:length].strip()

    def _request(self, method: str, path: str, payload: object, headers: Mapping[str, str]) -> Request:
        content = {} if payload is None else {"Content-Type": "application/json"}
        sent = {**content, **self.headers(), **headers}
        if bad := [name for name, value in sent.items() if not is_header(name, value)]:
            msg = f"can't send header {', '.join(bad)}: a control character, or no name at all"
            raise ClientError(msg, "invalid")
        base = self.client.uri
        # Quotes what can't stand in a request line, and leaves what is quoted already.
        target = quote(base.path.rstrip("/") + path, safe=punctuation)
        uri = urlsplit(f"{base.scheme}://{base.netloc}{target}")
        return Request(method, uri, sent, None if payload is None else msgspec.json.encode(payload))

    def _loggable(self, body: bytes) -> bytes | str:
        return "--skipped--" if self.skip_body and body else body
