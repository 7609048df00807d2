"""A connection to a scraper, or to whoever else asks."""

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from gunicorn.asgi.parser import CallbackRequest, PythonProtocol
from gunicorn.asgi.protocol import ASGIProtocol, BodyReceiver

# Bytes of a request that is remembered; Prometheus' own has about 400.
KEPT_LENGTH = 4096
# Seconds in which a client whose request was refused may go on sending, and read why.
LINGER = 2.0


class Connection(ASGIProtocol):
    """Gunicorn's connection, known to its worker, and with a limit on how long the first request may take.

    The application answers each request once, whole, and with a ``Content-Length``.

    A scraper asks for the same again and again, to the last byte. So what a request was parsed to is kept until the
    next one comes: to parse it anew would take longer than all else that is done with it here. Its scope is kept,
    too: each request gets a copy, and our application alters nothing that stands in it.
    """

    _closed: bool
    _keepalive_handle: asyncio.TimerHandle | None

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._idle_until = inf
        self._kept_data = b""
        self._kept_request: CallbackRequest | None = None
        self._kept_scope: dict[str, Any] | None = None
        self._refused = False
        self._lingering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._arm_keepalive_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.worker.connections.discard(self)
        super().connection_lost(exc)
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
        if self._lingering is not None:
            self._lingering.cancel()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._lingering is not None:
            return
        parser = self._callback_parser
        begins = parser is not None and _is_fresh(parser)
        if begins and data == self._kept_data:
            self._repeat(parser)
            return
        super().data_received(data)
        if begins and len(data) <= KEPT_LENGTH and parser.is_complete and not parser.remaining():
            self._keep(data)

    def close_if_idle(self) -> None:
        """Ends a connection on which no request is being answered."""
        if self._awaiting_request:
            self._keepalive_timeout()

    def _keep(self, data: bytes) -> None:
        """Keeps the request that came in these bytes, unless it has a body: that would be taken once, and be gone."""
        request = self._current_request
        if request is not None and not request.content_length and not request.chunked:
            self._kept_data, self._kept_request, self._kept_scope = data, request, None

    def _repeat(self, parser: PythonProtocol) -> None:
        """Takes the kept request for the one that came, and leaves all as the parser does."""
        parser._state, parser.is_complete = "complete", True  # noqa: SLF001 # what comes next waits in its buffer
        self._current_request = self._kept_request
        self._body_receiver = BodyReceiver(self._kept_request, self)
        self._body_receiver.set_complete()
        self._request_ready.set()

    def _build_http_scope(self, request: CallbackRequest, sockname: Any, peername: Any) -> dict[str, Any]:
        if request is not self._kept_request:
            return dict(super()._build_http_scope(request, sockname, peername))
        if self._kept_scope is None:
            self._kept_scope = super()._build_http_scope(request, sockname, peername)
        return self._kept_scope.copy()

    def _arm_keepalive_timer(self) -> None:
        # Gunicorn makes a timer for each request. One does for many: when it's due, it looks whether it still is.
        self._idle_until = self.worker.loop.time() + self._keepalive
        super()._resume_reading()  # what came so far is no whole request
        if self._keepalive_handle is None:
            self._keepalive_handle = self.worker.loop.call_at(self._idle_until, self._idled)

    def _cancel_keepalive_timer(self) -> None:
        self._idle_until = inf

    def _idled(self) -> None:
        self._keepalive_handle = None
        if self._idle_until <= self.worker.loop.time():
            self._keepalive_timeout()
        elif self._idle_until < inf:
            self._keepalive_handle = self.worker.loop.call_at(self._idle_until, self._idled)

    async def _serve_http_request(self, request: CallbackRequest, sockname: Any, peername: Any) -> bool:
        # Gunicorn's serves any application, in a task of its own: one that goes on when it has answered, that answers
        # in pieces, or with headers that are not fit to be sent. Ours answers once, whole, and says how long that is.
        answer = _Answer()
        try:
            scope = self._build_http_scope(request, sockname, peername)
            await self.app(scope, self._body_receiver.receive, answer.send)
        except Exception:  # whatever the application raises, its client is answered
            self.log.exception("Error in ASGI application")
        if _has_more(self._callback_parser):
            await asyncio.sleep(0)  # others get their turn between the requests of one who sent many at once
        if self._closed:
            return False
        if not answer.is_whole:
            self._send_error_response(500, "Internal Server Error")
            return False
        self._refused = (b"connection", b"close") in answer.headers
        closes: bool = self._will_close(request, response_requires_close=self._refused)
        self._send_response_start(answer.status, answer.headers, request, closes)
        if answer.body and not self._response_omits_body(request.method, answer.status):
            self._send_body(answer.body)
        else:
            self._safe_write(self._response_buffer)
        await self._flow_control.drain()  # who does not read what came is not asked for more
        return not closes

    def _resume_reading(self) -> None:
        # Gunicorn's lets more in after each request, however many wait already.
        if self._lingering is not None or self._http1_buffered() <= self._max_buffer_size // 2:
            super()._resume_reading()

    def _send_error_response(self, status: int, message: str, extra_headers: Sequence[tuple[str, str]] = ()) -> None:
        if self._closed:
            return  # the client left before it was answered
        self.log.warning("request refused with status %d: %s", status, message)
        self.app.let_go()
        self._refused = True
        super()._send_error_response(status, message, extra_headers)

    def _close_transport(self) -> None:
        if self._closed or not (self._refused or _is_unread(self._body_receiver)):
            super()._close_transport()
            return
        # Who still sends would have its connection reset, and might never read the answer: RFC 9112, section 9.6.
        self._closed = True
        if self._body_receiver is not None:
            self._body_receiver.signal_disconnect()
        try:
            self.transport.write_eof()
        except OSError:  # the client is gone
            self.transport.abort()
            return
        self._lingering = self.worker.loop.call_later(LINGER, self.transport.abort)
        self._resume_reading()


class _Answer:
    """What the application answers."""

    __slots__ = ("body", "headers", "is_whole", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.body = b""
        self.is_whole = False

    async def send(self, message: Mapping[str, Any]) -> None:
        """Called by the application."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message.get("body", b"")
            self.is_whole = not message.get("more_body", False)


def _is_fresh(parser: PythonProtocol) -> bool:
    """Whether nothing of a request has come, not even the empty line that may stand before it."""
    is_first = parser._state == "request_line" and not parser._empty_line_skipped  # noqa: SLF001 # it tells this nowhere else
    return is_first and not _has_more(parser)


def _is_unread(receiver: BodyReceiver | None) -> bool:
    """Whether a request's body has not come to its end."""
    return receiver is not None and not receiver._complete  # noqa: SLF001 # it tells this nowhere else


def _has_more(parser: PythonProtocol) -> bool:
    """Whether something was received that is not parsed yet."""
    return bool(parser._buffer)  # noqa: SLF001 # what it tells is a copy
