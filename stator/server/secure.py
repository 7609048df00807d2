"""A client's connection with TLS."""

import asyncio
import ssl
from http import HTTPStatus
from typing import Any

from stator.access.requests import is_own_probe
from stator.server.handshakes import HTTP, LEFT, TIMED_OUT, HandshakeLog, explain
from stator.server.protocol import Connection, Connections
from stator.server.refusals import Refused
from stator.server.tls import TLSContexts, TLSOptions
from stator.server.tls_extension import tls_extension
from stator.server.tls_transport import TLSTransport

# Seconds that a stop leaves a client from its connection until the handshake is done, and from then to its request.
HANDSHAKE_GRACE, REQUEST_GRACE = 1.0, 0.1


class SecureConnections(Connections):
    """A worker's connections, and what each new one needs for its handshake."""

    def __init__(self, timeout: float, limit: int, contexts: TLSContexts, probe_key: str = "") -> None:
        super().__init__(timeout, limit)
        self.contexts, self.handshakes = contexts, HandshakeLog()
        self.probe_key = probe_key  # by which our own probes are known


class SecureConnection(Connection):
    """Has the deadline, and a place among the connections, from the beginning: a handshake may never end."""

    server_state: SecureConnections
    _tls: TLSTransport
    _extensions: dict[str, Any]
    _stay_until = 0.0  # at a stop, without a request
    _options: TLSOptions
    _has_failed = False  # and its end waits until the client has read the alert
    _problem = ""  # why the client gets no answer, unless it is a probe of our own

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by asyncio."""
        context, self._options = self.server_state.contexts.get()
        self._tls = TLSTransport(transport, context)
        self._stay_until = self.loop.time() + HANDSHAKE_GRACE
        super().connection_made(self._tls)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if exc is not None and not self._tls.is_established and not self._has_failed:
            self._report(LEFT)
        super().connection_lost(exc)
        self._tls.forget()
        del self._options  # which may hold files open

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self.transport.is_closing():
            return
        was_established = self._tls.is_established
        try:
            text = self._tls.receive(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if self._tls.is_established and not was_established:
            tls = self._tls.get_extra_info("ssl_object")
            self._extensions = {"tls": tls_extension(tls)}
            # Not in the handshake, in which a probe of our own has no certificate either.
            self._problem = self._options.client_problem(tls.getpeercert() or {})
            self._stay_until = self.loop.time() + REQUEST_GRACE
            self.server_state.start_waiting(self)
        if text:
            super().data_received(text)
        if self._tls.has_ended:
            self.eof_received()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called by asyncio, and when the client has said that it sends no more."""
        if not self._tls.is_established and self._tls.has_begun and not self._has_failed:
            self._report(LEFT)
        if super().eof_received():
            return True
        self.transport.close()  # with a goodbye, which asyncio does not know of
        return False

    def has_unread_input(self) -> bool:
        """Whether the client may have sent, or still send, what nobody will read."""
        return self._has_failed or super().has_unread_input()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._problem and not is_own_probe(self.scope, self.server_state.probe_key):
            raise Refused(HTTPStatus.FORBIDDEN, self._problem)
        super().on_headers_complete()

    def shutdown(self) -> None:
        """Called when the server stops, again and again: a client that has just connected may still have a request."""
        if self.cycle is None and self.loop.time() < self._stay_until:
            return
        super().shutdown()

    def expire(self) -> bool:
        """Ends a wait for the client; returns whether it didn't read its answer."""
        if self._tls.is_established:
            return super().expire()
        self._report(TIMED_OUT)
        self.transport.abort()
        return False

    def _fail(self, error: ssl.SSLError) -> None:
        """Closes the connection of a client that can't be understood."""
        self._has_failed = True
        if not self._tls.is_established:
            self._report(explain(error, by_web_config=self._options.is_of_web_config))
            if error.reason == "HTTP_REQUEST":
                self._tls.write_plain(HTTP.answer(self.server_state.default_headers))
        self.transport.close()

    def _refuse(self, refused: Refused) -> None:
        """Closes the connection without an answer if the client must have another certificate."""
        if not self._problem:
            super()._refuse(refused)
            return
        self._report(self._problem)
        self.transport.close()

    def _report(self, reason: str) -> None:
        self.server_state.handshakes.failed(self.client, reason)
