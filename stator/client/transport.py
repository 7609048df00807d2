"""Sockets, with and without TLS, whose calls end at a deadline.

A socket's own timeout bounds a single read, so a peer that sends a byte now and then never exceeds it.
"""

import socket
import ssl
import time
from typing import Any

SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A host that vanished is noticed after 30 seconds, even during a long poll.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class DeadlineSocket(socket.socket):
    """A socket whose calls raise TimeoutError at `deadline`, a time of `time.monotonic`."""

    deadline = 0.0

    def connect(self, address: Any) -> None:
        """Connects until the deadline."""
        self.limit()
        super().connect(address)

    def send(self, *args: Any, **kwargs: Any) -> int:
        """Sends until the deadline."""
        self.limit()
        return super().send(*args, **kwargs)

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        """Sends until the deadline."""
        self.limit()
        super().sendall(*args, **kwargs)

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        """Receives until the deadline."""
        self.limit()
        return super().recv_into(*args, **kwargs)

    def limit(self) -> None:
        """Limits the next call to the time that is left.

        Raises:
            TimeoutError: There is none.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            msg = "timed out"
            raise TimeoutError(msg)
        self.settimeout(left)


class DeadlineTLSSocket(DeadlineSocket, ssl.SSLSocket):
    """The same with TLS."""

    def do_handshake(self, block: bool = False) -> None:
        """Performs the handshake until the deadline."""
        self.limit()
        super().do_handshake(block)


def tls_context(
    ca_file: str = "", cert_file: str = "", key_file: str = "", *, skip_verify: bool = False
) -> ssl.SSLContext:
    """A context whose sockets have deadlines.

    Args:
        ca_file: PEM file of the authorities to trust, instead of the system's.
        cert_file: PEM file of the client certificate, with its key if `key_file` is empty.
        key_file: PEM file of the client certificate's key.
        skip_verify: Whether to accept any certificate.

    Raises:
        OSError, ValueError: A file can't be read, or holds no PEM.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(cert_file, key_file or None, password="")
    context.sslsocket_class = DeadlineTLSSocket
    return context
