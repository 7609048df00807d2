"""A client's connection: uvicorn's protocol, with limits for clients that send slowly or wrongly, or never read."""

import asyncio
import logging
import re
import time
from collections import deque
from contextvars import copy_context
from http import HTTPStatus
from itertools import takewhile
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from stator.server.refusals import MAX_HEAD, Refused, check_head, refusal
from stator.server.transport import LingeringTransport

LOG = logging.getLogger(__name__)
END_OF_HEAD = b"\r\n\r\n"
# A target that is a URI without a path.
NO_PATH = re.compile(rb"(\w+://[^/?#]+)([?#]|$)")


class Connections(ServerState):
    """A worker's connections, and since when each waits for its client."""

    def __init__(self, timeout: float, limit: int) -> None:
        super().__init__()
        self._timeout = timeout  # seconds for a client to send the head of a request, or to read on in its answer
        self._limit = limit  # number of connections beyond which the one that has waited longest is closed
        self._waiting: dict[Connection, float] = {}  # in the order of these times, so the first expires first
        self._dropped = self._unread = 0
        self._ready: deque[Connection] = deque()
        self._context = copy_context()

    def start_waiting(self, connection: "Connection") -> None:
        """Notes that a connection waits for its client, from now on."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = time.monotonic()

    def stop_waiting(self, connection: "Connection") -> None:
        """Notes that a connection no longer waits for its client."""
        self._waiting.pop(connection, None)

    def make_room(self) -> None:
        """Drops the connection that has waited longest if there are too many."""
        if len(self.connections) > self._limit:
            longest = next(iter(self._waiting))
            self._waiting.pop(longest)
            longest.transport.abort()
            self._dropped += 1

    def proceed_later(self, connection: "Connection") -> None:
        """Lets one connection proceed at each later turn of the event loop, so that many requests hold up no others."""
        self._ready.append(connection)
        if len(self._ready) == 1:
            connection.loop.call_soon(self._proceed, context=self._context)  # not in that of a request

    def _proceed(self) -> None:
        connection = self._ready.popleft()
        if self._ready:
            connection.loop.call_soon(self._proceed)
        connection.proceed()

    def end_expired(self) -> None:
        """Ends each wait that has lasted longer than the timeout; logs what was dropped since the last call."""
        latest = time.monotonic() - self._timeout
        for connection, _ in list(takewhile(lambda item: item[1] <= latest, self._waiting.items())):
            self._waiting.pop(connection)
            self._unread += connection.expire()
        if self._unread:
            LOG.warning("closed connections of clients that did not read their answers: %d", self._unread)
        if self._dropped:
            LOG.warning("closed idle connections, since more than %d were open: %d", self._limit, self._dropped)
        self._dropped = self._unread = 0


class Connection(HttpToolsProtocol):
    """Parses one request at a time, so that a client that sends many at once waits for its answers like others."""

    server_state: Connections
    transport: LingeringTransport  # type: ignore[assignment]
    cycle: Any  # None before the first request

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received = bytearray()
        self._unparsed = 0  # bytes of an unfinished head, or of what frames a body
        self._unread = 0  # bytes of an answer that the client has yet to read
        self._refusal: Refused | None = None
        self._has_ended = False
        self.url, self.headers = b"", []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        transport.set_write_buffer_limits(0)  # so that writing is paused while anything is unread
        super().connection_made(LingeringTransport(transport, self.has_unread_input))  # type: ignore[arg-type]
        self.server_state.start_waiting(self)
        self.server_state.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.server_state.stop_waiting(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self.transport.is_closing():
            return
        if not (self._unparsed or self.is_answering or self.flow.write_paused):
            self.server_state.start_waiting(self)
        self._received += data
        self._parse()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called by asyncio; a client that sends no more may still wait for its answer."""
        self._has_ended = True
        return not self.transport.is_closing() and not self._wants_input

    def pause_writing(self) -> None:
        """Called by asyncio while the client does not read."""
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self.server_state.start_waiting(self)

    def resume_writing(self) -> None:
        """Called by asyncio when the client has read all."""
        super().resume_writing()
        self._answered()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        check_head(self.url, self._unparsed, len(self.headers))
        if self.parser.should_upgrade() and (b"upgrade", b"websocket") in self.headers:
            raise Refused(HTTPStatus.FORBIDDEN, "no WebSocket here")
        self._unparsed = 0
        if no_path := NO_PATH.match(self.url):  # RFC 9110, section 4.2.3: the same as "/"
            self.url = no_path[1] + b"/" + self.url[no_path.end(1) :]
        super().on_headers_complete()
        self.server_state.start_waiting(self)  # for the body
        if not self.expect_100_continue:
            self.transport.cork()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.is_answering:
            self.server_state.stop_waiting(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when the application has answered."""
        self.transport.uncork()
        super().on_response_complete()
        self._answered()

    def shutdown(self) -> None:
        """Called when the server stops: closes the connection, or has the answer say that it will be closed."""
        if self.is_answering and self.cycle.keep_alive:
            self.cycle.default_headers = [*self.cycle.default_headers, CLOSE_HEADER]  # uvicorn below 0.53 does not
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Called by uvicorn's timer, in place of which `Connections` has all deadlines."""

    @property
    def is_answering(self) -> bool:
        """Whether the head of a request has come, and not all of its answer was sent."""
        return bool(self.cycle) and not self.cycle.response_complete

    def has_unread_input(self) -> bool:
        """Whether the client may have sent, or still send, what nobody will read."""
        if self._has_ended:
            return False
        return bool(self._refusal or self._received or (self.cycle and self.cycle.more_body))

    def expire(self) -> bool:
        """Ends a wait for the client; returns whether it didn't read its answer."""
        left = self.transport.get_write_buffer_size()
        if 0 < left < self._unread:
            self._unread = left
            self.server_state.start_waiting(self)
        elif left:
            self.transport.abort()
            return True
        elif self.is_answering:
            pass  # it waits for a body, and answers for one that takes too long
        elif self._unparsed:
            self._refuse(Refused(HTTPStatus.REQUEST_TIMEOUT, "the request's head took too long"))
        else:
            self.transport.close()
        return False

    def proceed(self) -> None:
        """Goes on with what the client has sent since the last request, or with its end."""
        if not self.transport.is_closing():
            self._parse()
            if self._has_ended and self._wants_input:
                self.transport.close()

    def _answered(self) -> None:
        """Waits for the client once it has its answer, even while it has sent more: that can wait, too."""
        self._unparsed = 0
        if self.is_answering:
            self.server_state.stop_waiting(self)
        elif not (self.transport.is_closing() or self.flow.write_paused):
            self.server_state.start_waiting(self)
        if self._received or self._refusal or self._has_ended:
            self.server_state.proceed_later(self)

    @property
    def _wants_input(self) -> bool:
        return not self.flow.write_paused and (not self.is_answering or self.cycle.more_body)

    def _parse(self) -> None:
        """Parses what has come, until the end of a request that is to be answered first."""
        while self._received and self._wants_input and not self._refusal:
            end = self._received.find(END_OF_HEAD)
            size = end + len(END_OF_HEAD) if end >= 0 else len(self._received)
            self._feed(bytes(self._received[:size]))
            del self._received[:size]
        if self._refusal and (not self.is_answering or self.cycle.more_body):
            self._refuse(self._refusal)
        elif self._received:
            self.flow.pause_reading()
        elif not self.is_answering:
            self.flow.resume_reading()

    def _feed(self, data: bytes) -> None:
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
            if self._unparsed > MAX_HEAD:
                check_head(self.url, self._unparsed, len(self.headers))
        except httptools.HttpParserUpgrade:
            pass  # RFC 9110, section 7.8: a server may ignore it
        except httptools.HttpParserError as error:
            self._refusal = refusal(error)
        except Refused as refused:
            self._refusal = refused

    def _refuse(self, refused: Refused) -> None:
        """Answers a request that the application never sees, or not all of, and closes the connection."""
        self._refusal = refused
        host, port = self.client or ("", 0)
        LOG.warning("refused a request from %s:%d with status %d: %s", host, port, refused.status, refused.reason)
        if self.is_answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not (self.is_answering and self.cycle.response_started):
            self.transport.write(refused.answer(self.server_state.default_headers))
        self.transport.close()
