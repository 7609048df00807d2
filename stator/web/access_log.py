"""Logs each request and its response, with one ``request_id`` on all that is logged in between."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal, TypeAlias

import msgspec
from attrs import frozen

from stator.access.proxies import TrustedProxies
from stator.access.requests import remote_of_scope
from stator.client.probe import USER_AGENT
from stator.log.logger import Log
from stator.log.redact import redact_headers, redact_query
from stator.log.request import REQUEST_ID, RequestContext, is_success
from stator.settings.paths import PathSet
from stator.web.headers import with_security

# https://asgi.readthedocs.io/en/latest/specs/www.html
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

_REQUEST_ID = REQUEST_ID.lower().encode()
# No request that we answer has a body; if a client sends one, it is logged, up to this length.
MAX_BODY = 64 * 1024
MAX_DIGITS = len(str(MAX_BODY))
# A key of a scope: the request is one of many that are refused, and that are logged by their number.
COUNTED = "stator.counted"
# In place of a status, if the client left before its request was whole.
CLIENT_DISCONNECTED = -1
REFUSALS = {408: b'{"error":"request body took too long"}', 413: b'{"error":"request body too long"}'}


@frozen(eq=False, repr=False)
class AccessLogMiddleware:
    """ASGI middleware that logs each request, and its response before the client gets the last of it.

    It adds the request's id and the security headers, which are not logged, as they are always the same.
    A request for a quiet path, or one that may be refused, is logged only with its response: the level depends on that.
    """

    _app: App
    _log: Log
    _secret_headers: frozenset[str] = frozenset()  # names, in lower case
    _timeout: float = 10.0  # seconds that a request's body may take
    _quiet_paths: PathSet = PathSet()  # noqa: RUF009 # it does not change
    _mode: Literal["full", "line", "off"] = "full"  # two lines with headers, one line, or none
    _proxies: TrustedProxies = TrustedProxies()  # noqa: RUF009
    _is_doubtful: Callable[[Scope], bool] = lambda _: False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; answers with status 413 or 408 if its body is too long or does not come in time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = _bound_context(scope)
        log = self._log.debug if _is_own_probe(scope) else self._log.info
        start, has_ended, is_quiet = time.perf_counter_ns(), False, scope["path"] in self._quiet_paths
        is_late = is_quiet or self._is_doubtful(scope)
        status, headers, body, request_body = 0, (), b"", b""

        async def log_and_send(message: Message) -> None:
            nonlocal status, headers, body, has_ended, log
            if message["type"] == "http.response.start":
                status, headers = message["status"], message.get("headers", ())
                request_id = (_REQUEST_ID, context.ids["request_id"].encode())
                message = {**message, "headers": [*with_security(headers), request_id]}
            elif message["type"] == "http.response.body":
                body = body or message.get("body", b"")
                if not message.get("more_body", False):
                    has_ended = True
                    if is_late:
                        log = self._log.debug if (is_quiet and is_success(status)) or COUNTED in scope else log
                        self._log_request(log, scope, request_body)
                    elapsed = time.perf_counter_ns() - start
                    self._log_response(log, scope, status, headers, body, elapsed)
            await send(message)

        try:
            request_body, refusal = await _read_body(scope["headers"], receive, self._timeout)
            if not is_late:
                self._log_request(log, scope, request_body)
            if refusal == CLIENT_DISCONNECTED:
                return
            if refusal:
                await _refuse(log_and_send, refusal)
            else:
                await self._app(scope, _replay(request_body, receive), log_and_send)
        finally:
            if not has_ended and is_late:
                self._log_request(log, scope, request_body)
            if not has_ended:
                self._log.warning("response was not sent", elapsed=time.perf_counter_ns() - start)
            context.release()

    def _log_request(self, log: Callable[..., object], scope: Scope, body: bytes) -> None:
        if self._mode != "full":
            return
        log(
            "received request",
            method=scope["method"],
            path=scope["path"],
            query=redact_query(scope["query_string"].decode("latin-1")),
            **self._peer(scope),
            headers=self._headers_text(scope["headers"]),
            body=body,
        )

    def _log_response(
        self, log: Callable[..., object], scope: Scope, status: int, headers: Headers, body: bytes, elapsed: int
    ) -> None:
        if self._mode == "full":
            log("sending response", status=status, headers=self._headers_text(headers), body=body, elapsed=elapsed)
        elif self._mode == "line":
            about = {"method": scope["method"], "path": scope["path"], "status": status, "elapsed": elapsed}
            log("answered request", **about, **self._peer(scope))

    def _peer(self, scope: Scope) -> dict[str, str]:
        address, port = remote_of_scope(scope, self._proxies)
        return {"remote_ip": address, "remote_port": port}

    def _headers_text(self, headers: Headers) -> str:
        pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
        return msgspec.json.encode(redact_headers(pairs, self._secret_headers)).decode()


def _bound_context(scope: Scope) -> RequestContext:
    """Returns the ids of a request, bound to all that is logged for it."""
    context = RequestContext()
    context.read_headers(scope["headers"])
    context.bind()
    return context


def _is_own_probe(scope: Scope) -> bool:
    """Whether Stator on this host asks itself whether it answers."""
    client, server = scope.get("client"), scope.get("server")
    is_local = client is not None and server is not None and client[0] == server[0]
    return is_local and (b"user-agent", USER_AGENT.encode()) in scope["headers"]


async def _read_body(headers: Headers, receive: Receive, timeout: float) -> tuple[bytes, int]:
    """Returns what came of a body, and the status with which to refuse it, `CLIENT_DISCONNECTED`, or 0."""
    framing = {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}
    if not framing:
        return b"", 0
    body = b""
    # Python converts no more than 4,300 digits, and zeros may come first.
    digits = framing.get(b"content-length", b"").lstrip(b"0")
    too_long = len(digits) > MAX_DIGITS or int(digits or b"0") > MAX_BODY
    try:
        async with asyncio.timeout(timeout):
            while not too_long:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return body, CLIENT_DISCONNECTED
                body += message.get("body", b"")
                too_long = len(body) > MAX_BODY
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return body, 408
    return body, 413 if too_long else 0


def _replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read already, then what the server has next."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(send: Send, status: int) -> None:
    body = REFUSALS[status]
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
