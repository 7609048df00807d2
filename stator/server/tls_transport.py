"""Encrypts and decrypts what goes over a connection, without any waiting of its own."""

import asyncio
import ssl
from contextlib import suppress
from typing import Any

RECORD = 16 * 1024  # bytes of the longest record: RFC 8446, section 5.1


class TLSTransport:
    """A transport that encrypts what is written; `receive` decrypts what has come.

    Asyncio's own gives a client that shuts down its side no answer, takes 256 KiB for each connection, and keeps those
    in their handshake to itself.
    """

    def __init__(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.has_begun = False  # whether anything has come
        self.is_established = False  # whether the handshake is done
        self.has_ended = False  # whether the client has said that it sends no more

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns what asyncio's transports with TLS have, or what the one below has."""
        match name:
            case "ssl_object":
                return self._tls
            case "sslcontext":
                return self._tls.context
        return self._transport.get_extra_info(name, default)

    def receive(self, data: bytes) -> bytes:
        """Returns the plain text of what has come; raises ssl.SSLError, once the client has its alert."""
        self.has_begun = True
        if self.has_ended:  # whatever comes now, nobody reads it
            return b""
        self._incoming.write(data)
        chunks = []
        try:
            if not self.is_established:
                self._tls.do_handshake()
                self.is_established = True
            while chunk := self._tls.read(RECORD):
                chunks.append(chunk)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # after a goodbye of ours
            self.has_ended = True
        finally:
            self._flush()
        return b"".join(chunks)

    def write(self, data: bytes) -> None:
        """Encrypts and writes, unless the connection is closing."""
        if not self.is_established or self._transport.is_closing():
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        self._flush()

    def write_plain(self, data: bytes) -> None:
        """Writes to a client that does not speak TLS."""
        self._transport.write(data)

    def write_eof(self) -> None:
        """Tells the client that nothing more will come."""
        self._say_goodbye()
        self._transport.write_eof()

    def close(self) -> None:
        """Closes once all is sent; RFC 8446, section 6.1: the client's own goodbye need not be waited for."""
        self._say_goodbye()
        self._transport.close()

    def forget(self) -> None:
        """Frees the buffers, and the context with its files, once the connection is gone."""
        # The connection itself may wait for the garbage collector.
        del self._tls, self._incoming, self._outgoing

    def _say_goodbye(self) -> None:
        if self.is_established and not self._transport.is_closing():
            with suppress(ssl.SSLError):  # it would like to read the client's
                self._tls.unwrap()
            self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._transport.write(data)
