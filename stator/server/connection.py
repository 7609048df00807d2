"""A connection to a scraper, or to whoever else asks."""

import asyncio
from collections.abc import Sequence

from gunicorn.asgi.protocol import ASGIProtocol


class Connection(ASGIProtocol):
    """Gunicorn's connection, known to its worker, and with a limit on how long the first request may take."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        super().connection_made(transport)
        self.worker.connections.add(self)
        self._arm_keepalive_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        self.worker.connections.discard(self)
        super().connection_lost(exc)

    def close_if_idle(self) -> None:
        """Ends a connection on which no request is being answered."""
        if self._awaiting_request:
            self._keepalive_timeout()

    def _send_error_response(self, status: int, message: str, extra_headers: Sequence[tuple[str, str]] = ()) -> None:
        if self._closed:
            return  # the client left before it was answered
        self.log.warning("request refused with status %d: %s", status, message)
        super()._send_error_response(status, message, extra_headers)
