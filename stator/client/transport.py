"""Sockets, with and without TLS, whose calls end at a deadline."""

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
    """A socket that sends and receives until `deadline`, a time of `time.monotonic`; then it raises TimeoutError."""

    deadline = 0.0  # a timeout bounds a single read, so a peer that sends a byte now and then never exceeds it

    def limit(self) -> None:
        """Limits the next call to the time that is left; raises TimeoutError if there is none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            msg = "timed out"
            raise TimeoutError(msg)
        self.settimeout(left)

    def send(self, *args: Any, **kwargs: Any) -> int:
        """Sends until the deadline; with TLS, `sendall` calls it for each part."""
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


class DeadlineTLSSocket(DeadlineSocket, ssl.SSLSocket):
    """The same with TLS."""


def tls_context(
    ca_file: str = "", cert_file: str = "", key_file: str = "", *, skip_verify: bool = False
) -> ssl.SSLContext:
    """Returns a context whose sockets have deadlines; raises OSError or ValueError for a file that can't be used."""
    if skip_verify:
        # Without the system's authorities, which take some milliseconds and megabytes.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if ca_file:
            context.load_verify_locations(ca_file)
    else:
        context = ssl.create_default_context(cafile=ca_file or None)
    if cert_file:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(cert_file, key_file or None, password="")
    context.sslsocket_class = DeadlineTLSSocket
    return context
