"""The HTTP client: each exchange ends at a deadline, whatever trickles, and another thread can abort it."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.message import Message
from http.client import BadStatusLine, HTTPConnection, HTTPException, HTTPSConnection, IncompleteRead
from math import inf
from typing import Any, cast
from urllib.parse import SplitResult
from weakref import WeakSet

from attrs import define, evolve, field, frozen

from stator.client.body import read_body
from stator.client.errors import ClientError, ErrorKind
from stator.client.transport import SOCKET_OPTIONS, DeadlineSocket, DeadlineTLSSocket
from stator.settings.masking import Mask, mask_uris

# Nothing that we request is near this size: a longer answer comes from something else.
MAX_ANSWER = 1 << 20
LONGEST_CAUSE = 300  # characters of an error, which may quote what a peer has sent
# OpenSSL's codes of an authority that is not trusted: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})


@frozen(eq=False, repr=False)
class TLSHints:
    """What errors say of the settings that would mend them."""

    authority: str  # where an authority is not trusted
    certificate: str  # where a certificate of the client's is required


CLIENT_TLS = TLSHints(
    "STTR_CLIENT_CAFILE names the authorities to trust",
    "it requires a certificate that it trusts: STTR_CLIENT_CERTFILE and STTR_CLIENT_KEYFILE",
)


@frozen(eq=False, repr=False)
class Request:
    """A request, which must be idempotent: it is sent again if an idle connection turns out to be closed."""

    method: str
    uri: SplitResult
    headers: Mapping[str, str]
    body: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.uri.scheme}://{self.host}{self.uri.path}"

    @property
    def host(self) -> str:
        """Host and port of the URI, without a user."""
        return self.uri.netloc.rpartition("@")[2]


@frozen(eq=False, repr=False)
class Response:
    """An answer, whatever its status is."""

    status: int
    headers: Message
    body: bytes


@define(eq=False, repr=False)
class Client:
    """Sends requests to the server of a base URI, and keeps one idle connection for the next. Thread-safe."""

    uri: SplitResult
    tls: Callable[[], ssl.SSLContext]  # makes the context of each new connection to an https URI
    timeout: float  # longest seconds of an exchange, without the look-up of the host, which can't be bounded
    timeout_short: float  # longest seconds to connect, and from then until the headers of the answer are read
    mask: Mask = mask_uris  # masks secrets in errors
    max_answer: int = MAX_ANSWER  # most bytes of an answer's body, also of one that was compressed
    tls_hints: TLSHints = CLIENT_TLS
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _idle: HTTPConnection | None = field(default=None, init=False)
    _sockets: WeakSet[socket.socket] = field(factory=WeakSet, init=False)
    _is_closed: bool = field(default=False, init=False)

    def clone(self) -> "Client":
        """Returns a client with the same settings, and connections of its own."""
        return evolve(self)

    def close(self) -> None:
        """Closes all connections: requests of other threads and later ones fail at once."""
        with self._lock:
            self._is_closed = True
            for each in self._sockets:
                with suppress(OSError):
                    # SSLSocket.shutdown would make its reader take the cipher text for plain text.
                    socket.socket.shutdown(each, socket.SHUT_RDWR)
            if self._idle is not None:
                self._idle.close()
                self._idle = None

    def send(self, request: Request, *, timeout: float | None = None, long_poll: float = 0.0) -> Response:
        """Sends a request and returns the whole answer; follows no redirect; raises ClientError.

        A `timeout` only shortens the configured one; the server may begin to answer `long_poll` seconds later. An
        answer may be compressed where the request accepts gzip.
        """
        total = min(timeout or inf, self.timeout)
        short = min(total, self.timeout_short)
        limits = (short + long_poll, total, time.monotonic() + total + long_poll)
        with self._lock:
            idle, self._idle = self._idle, None
        try:
            if idle is not None:
                try:
                    return self._exchange(idle, request, *limits)
                except TimeoutError:
                    raise
                except OSError:
                    pass  # The server closed the connection while it was idle.
            return self._exchange(self._connect(time.monotonic() + short), request, *limits)
        except (OSError, HTTPException, ValueError) as error:
            cause = root_cause(error)
            msg = self.mask(f"{request}: {describe(cause, self.mask, self.tls_hints)}")
            raise ClientError(msg, error_kind(cause)) from error

    def _exchange(
        self, connection: HTTPConnection, request: Request, until_headers: float, until_body: float, end: float
    ) -> Response:
        target = f"{request.uri.path or '/'}{request.uri.query and '?'}{request.uri.query}"
        sock = cast(DeadlineSocket, connection.sock)
        try:
            sock.deadline = min(end, time.monotonic() + until_headers)
            headers = {name: value.encode() for name, value in request.headers.items()}
            connection.request(request.method, target, request.body, headers)
            with connection.getresponse() as response:
                sock.deadline = min(end, time.monotonic() + until_body)
                answer = Response(
                    response.status,
                    response.headers,
                    read_body(response, request.headers.get("Accept-Encoding", ""), self.max_answer),
                )
            # http.client takes the end of an aborted connection for the end of headers, or of a body without a length.
            self._check_open()
        except BaseException:
            connection.close()
            raise
        with self._lock:
            # After an answer with `Connection: close` it has no socket any more.
            keep = connection.sock is not None and request.headers.get("Connection") != "close"
            if keep and self._idle is None and not self._is_closed:
                self._idle = connection
            else:
                connection.close()
        return answer

    def _connect(self, deadline: float) -> HTTPConnection:
        port = self.uri.port or (443 if self.uri.scheme == "https" else 80)
        untried = socket.getaddrinfo(self.uri.hostname, port, type=socket.SOCK_STREAM)
        while True:
            # Each address has its share of the time that is left.
            now = time.monotonic()
            share = (deadline - now) / len(untried)
            family, kind, protocol, _, address = untried.pop(0)
            try:
                return self._open(DeadlineSocket(family, kind, protocol), address, port, now + share)
            except OSError:
                if not untried:
                    raise

    def _open(self, sock: DeadlineSocket, address: Any, port: int, deadline: float) -> HTTPConnection:
        host = self.uri.hostname or ""
        try:
            for option in SOCKET_OPTIONS:
                sock.setsockopt(*option)
            self._watch(sock, deadline)
            sock.connect(address)
            if self.uri.scheme == "https":
                context = self.tls()
                connection: HTTPConnection = HTTPSConnection(host, port, context=context)
                # wrap_socket would leave open what `close` has shut down.
                self._check_open()
                secure = context.wrap_socket(sock, do_handshake_on_connect=False, server_hostname=host)
                sock = cast(DeadlineTLSSocket, secure)
                self._watch(sock, deadline)
                sock.do_handshake()
            else:
                connection = HTTPConnection(host, port)
        except BaseException:
            sock.close()
            raise
        connection.sock = sock
        return connection

    def _watch(self, sock: DeadlineSocket, deadline: float) -> None:
        """Bounds the connect or handshake that comes next, and lets `close` abort it."""
        sock.deadline = deadline
        sock.limit()
        with self._lock:
            self._check_open()
            self._sockets.add(sock)

    def _check_open(self) -> None:
        if self._is_closed:
            msg = "the client is closed"
            raise ConnectionAbortedError(msg)


def error_kind(cause: BaseException) -> ErrorKind:
    """Returns how a request failed, by the error of the socket, of ssl or of http.client."""
    if isinstance(cause, TimeoutError):
        return "timeout"
    return "unreachable" if isinstance(cause, OSError | IncompleteRead) else "invalid"


def root_cause(error: BaseException) -> BaseException:
    """Returns the error itself, or what http.client found wrong with a chunk and raises an IncompleteRead for."""
    inner = error.__cause__ or error.__context__
    return root_cause(inner) if isinstance(error, IncompleteRead) and inner else error


def describe(cause: BaseException, mask: Mask = mask_uris, hints: TLSHints = CLIENT_TLS) -> str:
    """Returns what happened, for a reader, with the settings that would mend it: ``Connection refused``."""
    # What a peer has sent is masked before it is cut.
    if isinstance(cause, BadStatusLine) and not isinstance(cause, OSError):
        return f"not an HTTP answer: {mask(str(cause))[:80]!r}"
    strerror = getattr(cause, "strerror", None)
    text = mask(strerror if isinstance(strerror, str) else str(cause) or type(cause).__name__)[:LONGEST_CAUSE]
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in UNKNOWN_AUTHORITY:
        return f"{text}; {hints.authority}"
    alert = str(cause.reason) if isinstance(cause, ssl.SSLError) else ""
    if "ALERT" in alert and ("CERTIFICATE" in alert or "UNKNOWN_CA" in alert):
        return f"{text}; {hints.certificate}"
    return text
