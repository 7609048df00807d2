"""Logs each request and its response, with one ``request_id`` on all that is logged in between."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from itertools import chain
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs

import orjson

from stator.client.probe import USER_AGENT
from stator.log.logger import Log, bind, new_id, unbind
from stator.log.redact import redact_headers

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

# No request that we answer has a body; what is sent all the same is logged, up to here.
MAX_BODY = 64 * 1024
# How many texts of headers are kept, and how long one and its headers may be: what clients make up can't fill memory.
KEPT_TEXTS, KEPT_LENGTH = 256, 2000
# As any other query would be written.
NO_QUERY = "{}"
# In place of a status, where the client left before its request was whole.
LEFT = -1
REFUSALS = {408: b'{"error":"request body took too long"}', 413: b'{"error":"request body too long"}'}


class Lines(Protocol):
    """What can hold lines of the log."""

    def buffer(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        """Holds this thread's lines until ``call_soon`` calls, and writes them together then."""

    def flush(self) -> None:
        """Writes what is held."""


class AccessLogMiddleware:
    """ASGI middleware that tells the log of each request.

    https://asgi.readthedocs.io/en/latest/specs/www.html

    Args:
        app: The application within.
        log: Where requests and responses are told.
        secret_headers: Names of headers to hide, in lower case.
        patience: Seconds that a request's body may take.
        clock: Nanoseconds that only go up.
        lines: What holds lines of the log, where one write is to do for all of a turn of the event loop.
    """

    def __init__(
        self,
        app: App,
        log: Log,
        secret_headers: frozenset[str] = frozenset(),
        patience: float = 10.0,
        clock: Callable[[], int] = time.perf_counter_ns,
        lines: Lines | None = None,
    ) -> None:
        self._app, self._log, self._shown = app, log, _Shown(secret_headers)
        self._patience, self._clock, self._lines = patience, clock, lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; one whose body is too long or does not come is answered with status 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = bind(request_id=new_id())
        level = "debug" if _is_own_probe(scope) else "info"
        response = _Response(send, getattr(self._log, level), self._shown, self._clock, self._lines)
        try:
            body, refused = b"", 0
            if framing := _framing(scope["headers"]):
                body, refused = await _read(framing, receive, self._patience)
                receive = _replay(body, receive)
            if self._lines is not None:
                self._lines.buffer(_call_soon)
            self._received(scope, body, level)
            if refused == LEFT:
                return
            if refused:
                await _refuse(response.send, refused)
            else:
                await self._app(scope, receive, response.send)
        finally:
            if not response.ended:
                self._log.warning("response was not sent", elapsed=response.elapsed())
            unbind(token)

    def let_go(self) -> None:
        """Writes the lines that are held."""
        if self._lines is not None:
            self._lines.flush()

    def _received(self, scope: Scope, body: bytes, level: str) -> None:
        peer = scope.get("client") or ("", 0)
        getattr(self._log, level)(
            "received request",
            method=scope["method"],
            path=scope["path"],
            query=_query(scope["query_string"]),
            remote_ip=peer[0].removeprefix("::ffff:"),
            remote_port=str(peer[1]),
            headers=self._shown.text(scope["headers"]),
            body=body or "",
        )


def _call_soon(callback: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_soon(callback)


class _Response:
    """Sends a response on, and logs it when its last part is sent."""

    __slots__ = ("_body", "_clock", "_headers", "_lines", "_log", "_send", "_shown", "_start", "_status", "ended")

    def __init__(
        self, send: Send, log: Callable[..., object], shown: "_Shown", clock: Callable[[], int], lines: Lines | None
    ) -> None:
        self._send, self._log, self._shown, self._clock, self._lines = send, log, shown, clock, lines
        self._start = clock()
        self._status = 0
        self._headers: Iterable[tuple[bytes, bytes]] = ()
        self._body = b""
        self.ended = False

    def elapsed(self) -> int:
        """Nanoseconds since the request came."""
        return self._clock() - self._start

    async def send(self, message: Message) -> None:
        """Passes one message of the application to the server."""
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], message.get("headers", ())
        elif message["type"] == "http.response.body":
            self._body = self._body or message.get("body", b"")
            if not message.get("more_body", False):
                self._tell()
                if self._lines is not None:
                    await asyncio.sleep(0)  # until the lines are written: whoever gets the answer finds it in the log
        await self._send(message)

    def _tell(self) -> None:
        self.ended = True
        if self._lines is not None:
            self._lines.buffer(_call_soon)
        self._log(
            "sending response",
            status=self._status,
            headers=self._shown.text(self._headers),
            body=self._body,
            elapsed=self.elapsed(),
        )


class _Shown:
    """Headers as the log shows them; since a client sends the same again and again, a few texts are kept."""

    def __init__(self, secret_headers: frozenset[str]) -> None:
        self._secret = secret_headers
        self._kept: dict[tuple[tuple[bytes, bytes], ...], str] = {}

    def text(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """JSON of names and values, secrets hidden."""
        key = tuple(headers)
        text = self._kept.get(key)
        if text is None:
            pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in key)
            text = orjson.dumps(redact_headers(pairs, self._secret)).decode()
            if len(text) <= KEPT_LENGTH and sum(map(len, chain.from_iterable(key))) <= KEPT_LENGTH:
                if len(self._kept) == KEPT_TEXTS:
                    self._kept.clear()
                self._kept[key] = text
        return text


def _is_own_probe(scope: Scope) -> bool:
    """Whether we ask ourselves, on this host, whether we answer."""
    client, server = scope.get("client"), scope.get("server")
    is_local = client is not None and server is not None and client[0] == server[0]
    return is_local and (b"user-agent", USER_AGENT.encode()) in scope["headers"]


def _query(text: bytes) -> dict[str, list[str]] | str:
    return parse_qs(text.decode("latin-1"), keep_blank_values=True) if text else NO_QUERY


def _framing(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that say that there is a body."""
    return {name: value for name, value in headers if name in (b"content-length", b"transfer-encoding")}


async def _read(framing: Mapping[bytes, bytes], receive: Receive, patience: float) -> tuple[bytes, int]:
    """A request's body, or what came of it; and the status with which to refuse it, `LEFT`, or 0."""
    body = b""
    too_long = int(framing.get(b"content-length", b"0")) > MAX_BODY
    try:
        async with asyncio.timeout(patience):
            while not too_long:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return body, LEFT
                body += message.get("body", b"")
                too_long = len(body) > MAX_BODY
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return body, 408
    return body, 413 if too_long else 0


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives the application a body that was read already, then whatever the server has next."""
    whole = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


async def _refuse(send: Send, status: int) -> None:
    body = REFUSALS[status]
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
