"""The end of a connection on which the client may still be sending."""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER = 2.0  # seconds in which a client may go on sending a request that was refused, and read why


class LingeringTransport:
    """A transport whose end waits until the client has read why its request was refused: RFC 9112, section 9.6."""

    def __init__(self, transport: asyncio.Transport, has_unread_input: Callable[[], bool]) -> None:
        self._transport, self._has_unread_input = transport, has_unread_input
        self._lingers = self._is_corked = False
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more is to be read or written."""
        return self._lingers or self._transport.is_closing()

    def cork(self) -> None:
        """Holds what is written until `uncork` or `close`: one system call for an answer in place of two."""
        self._is_corked = True

    def uncork(self) -> None:
        """Writes what is held."""
        self._is_corked = False
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()

    def write(self, data: bytes) -> None:
        """Writes, unless closed."""
        if self._is_corked:
            self._held.append(data)
        elif not self._lingers:
            self._transport.write(data)

    def close(self) -> None:
        """Closes at once, or once the client has closed, `LINGER` seconds later at most."""
        if self._lingers:
            return
        self.uncork()
        if not self._has_unread_input():
            self._transport.close()
            return
        self._lingers = True
        try:
            self._transport.write_eof()
        except OSError:  # the client is gone
            self._transport.abort()
            return
        asyncio.get_running_loop().call_later(LINGER, self._transport.abort)
        self._transport.resume_reading()
