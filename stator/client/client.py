"""The HTTP client toward the discovery service: pooled, bounded in time and size, and it logs what it does."""

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from attrs import field, frozen

from stator.client.headers import HEADER_PAIRS, HEADER_SYNTAX, header_pairs, is_header
from stator.log.logger import Log, new_id
from stator.log.redact import SECRET_HEADERS, redact_headers
from stator.settings.declare import REDACTED, Secret, positive, setting
from stator.settings.duration import Duration

if TYPE_CHECKING:
    import urllib3

    from stator.client.errors import ErrorKind
    from stator.client.transport import Connections

# No answer that we ask for is near this size; more is a sign of somebody else at the other end.
MAX_ANSWER = 1 << 20


def _shown_pairs(config: "ClientConfig", words: tuple[str, ...]) -> list[str]:
    secret = SECRET_HEADERS | config.secret_headers
    pairs = (words[at : at + 2] for at in range(0, len(words), 2))
    return [
        shown
        for pair in pairs
        for shown in (pair[0], *(REDACTED if pair[0].lower() in secret else v for v in pair[1:]))
    ]


@frozen
class ClientConfig:
    """How to reach the discovery service."""

    base_uri: str = setting("", desc="discovery service, ex: http://localhost:8500; unset: no discovery")
    timeout: Duration = setting(Duration.parse("1m"), desc="request timeout", check=positive)
    timeout_short: Duration = setting(Duration.parse("10s"), desc="dialer and header timeout", check=positive)
    headers: tuple[str, ...] = setting(
        (),
        desc="header pairs to be sent with every request: name,value,name,value",
        check=HEADER_PAIRS,
        show=_shown_pairs,
    )
    skip_verify: bool = setting(default=False, desc="skip cert verification")
    user: str = setting("", desc="username for basic auth")
    password: Secret = setting(Secret(), desc="password for basic auth", env="PASS")
    redact_headers: tuple[str, ...] = setting((), desc="headers to redact from request logging")
    skip_body: bool = setting(default=False, desc="skip logging of body for request and response")
    ca_file: str = setting("", desc="PEM file of the authorities to trust, instead of the system's")
    cert_file: str = setting("", desc="PEM file of the client certificate")
    key_file: str = setting("", desc="PEM file of the client certificate's key")

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong between settings, or with a URI or file that they name."""
        if self.base_uri:
            yield from self._uri_problems()
        if not all(is_header(*pair) for pair in header_pairs(self.headers)):
            yield "headers", HEADER_SYNTAX
        if self.key_file and not self.cert_file:
            yield "key_file", "STTR_CLIENT_CERTFILE to be set too"
        if self.password and not self.user:
            yield "user", "a name, since STTR_CLIENT_PASS is set"
        if self.ca_file or self.cert_file:
            yield from self._tls_problems()

    def _uri_problems(self) -> Iterator[tuple[str, str]]:
        try:
            uri = urlsplit(self.base_uri)
            (uri.hostname or "").encode("idna")
            good = uri.scheme in ("http", "https") and uri.hostname and (uri.port is None or uri.port)
        except ValueError:
            good = None
        if not good or uri.query or uri.fragment:
            yield "base_uri", "a URI such as http://localhost:8500"
        elif uri.username or uri.password:
            yield "base_uri", "a URI without a user: that goes into STTR_CLIENT_USER and STTR_CLIENT_PASS"

    def _tls_problems(self) -> Iterator[tuple[str, str]]:
        import ssl  # slow to import

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca_file:
                context.load_verify_locations(self.ca_file)
        except (OSError, ValueError) as error:
            yield "ca_file", f"a readable file of PEM certificates ({error})"
        try:
            if self.cert_file:
                # An empty password, lest OpenSSL asks for one on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file or None, password="")
        except (OSError, ValueError) as error:
            yield "cert_file", f"a readable PEM file of a certificate, with its key unencrypted ({error})"

    @property
    def secret_headers(self) -> frozenset[str]:
        """Names of headers to hide, in lower case."""
        return frozenset(name.lower() for name in self.redact_headers)

    def build(self, log: Log) -> "Client":
        """A client that logs what it sends and gets."""
        return Client(self, log)


class ClientError(Exception):
    """A request got no usable answer.

    Attributes:
        failing: How it failed.
        status: The HTTP status of the answer, or None where there was none.
        body: The body of an answer with a bad status.
    """

    def __init__(self, message: str, failing: "ErrorKind", status: int | None = None, body: bytes = b"") -> None:
        super().__init__(message)
        self.failing, self.status, self.body = failing, status, body


@frozen
class Answer:
    """What came back: a status below 300, and the body."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(factory=dict)


class Client:
    """Sends requests to one service, and logs each request and each response with the same ``request_id``."""

    def __init__(self, config: ClientConfig, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._log, self._clock = config, log, clock
        uri = urlsplit(config.base_uri)
        self._base = f"{uri.scheme}://{uri.netloc}"
        self._root = uri.path.rstrip("/")
        self._lock = threading.Lock()
        self._pool: urllib3.PoolManager | None = None
        self._connections: Connections | None = None
        self._is_closed = False

    def another(self) -> "Client":
        """A client with the same settings, and connections of its own."""
        return Client(self._config, self._log, self._clock)

    def close(self) -> None:
        """Closes all connections: what another thread asks right now fails at once, and whatever is asked later."""
        with self._lock:
            self._is_closed = True
            if self._pool is not None and self._connections is not None:
                self._connections.cut()
                self._pool.clear()

    def send(
        self,
        method: str,
        path: str,
        payload: object = None,
        *,
        shown: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        wait: float = 0.0,
        level: str = "info",
    ) -> Answer:
        """Sends one request and waits for the whole answer.

        Args:
            method: HTTP method.
            path: Path below the base URI, with a query where there is one.
            payload: What to send as JSON; None sends no body.
            shown: What is logged of the payload, where that holds secrets.
            headers: Headers beside the configured ones.
            timeout: Longest time for all of it in seconds, where it's shorter than the configured one.
            wait: Seconds that the peer may take beyond that before it begins to answer.
            level: Level at which request and response are logged.

        Raises:
            ClientError: No answer, not in time, too long, or with a status of 300 and more: redirects are not followed.
        """
        import orjson  # slow to import

        body = orjson.dumps(payload) if payload is not None else None
        told = body if shown is None else orjson.dumps(shown)
        sent = self._headers(headers or {}, has_body=body is not None)
        tell = getattr(self._log.bind(request_id=new_id()), level)
        secret = self._config.secret_headers
        uri = urlsplit(self._root + path)
        tell(
            "sending request",
            method=method,
            scheme=self._base.partition(":")[0],
            host=self._base.partition("//")[2],
            path=uri.path,
            query=parse_qs(uri.query, keep_blank_values=True),
            headers=redact_headers(sent.items(), secret),
            body=self._shown(told or b""),
        )
        start = self._clock()
        try:
            answer = self._exchange(method, self._root + path, body, sent, start, timeout=timeout, wait=wait)
        except ClientError as error:
            tell("no response", path=uri.path, reason=str(error), elapsed=self._nanoseconds_since(start))
            raise
        tell(
            "received response",
            path=uri.path,
            status=answer.status,
            headers=redact_headers(answer.headers.items(), secret),
            body=self._shown(answer.body),
            elapsed=self._nanoseconds_since(start),
        )
        if answer.status >= 300:
            text = answer.body[:200].decode(errors="replace").strip()
            msg = f"{method} {self._base}{uri.path} was answered with status {answer.status}{text and f': {text}'}"
            raise ClientError(msg, "status", answer.status, answer.body)
        return answer

    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        start: float,
        *,
        timeout: float | None,
        wait: float,
    ) -> Answer:
        import urllib3  # slow to import

        from stator.client.errors import failing, reason

        total = min(timeout or self._config.timeout.seconds, self._config.timeout.seconds)
        short = min(total, self._config.timeout_short.seconds)
        where = f"{method} {self._base}{path.partition('?')[0]}"
        try:
            response = self._opened().request(
                method,
                self._base + path,
                body=body,
                # As UTF-8: Python would send Latin-1, which most names are not in.
                headers={name: value.encode().decode("latin-1") for name, value in headers.items()},
                timeout=urllib3.Timeout(connect=short, read=short + wait),
                retries=False,
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            msg = f"{where}: {reason(error)}"
            raise ClientError(msg, failing(error)) from error
        connection = response.connection
        try:
            answer = self._read(response, where, start + total + wait)
        except ClientError:
            # What is left of the body would be taken for the next answer.
            response.close()
            raise
        response.release_conn()
        if connection is not None and headers.get("Connection") == "close":
            # Also where the peer does not say that it closes it: the next request would meet its end.
            connection.close()
        return Answer(response.status, answer, dict(response.headers))

    def _read(self, response: "urllib3.BaseHTTPResponse", where: str, deadline: float) -> bytes:
        """Reads a body within bounds: a peer may send for ever, or a byte at a time."""
        import urllib3

        from stator.client.errors import failing, reason

        body = bytearray()
        try:
            while chunk := response.read1(1 << 16):
                body += chunk
                if len(body) > MAX_ANSWER:
                    msg = f"{where}: the answer is longer than {MAX_ANSWER} bytes"
                    raise ClientError(msg, "invalid")
                if self._clock() > deadline:
                    msg = f"{where}: the answer took too long"
                    raise ClientError(msg, "timeout")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            msg = f"{where}: {reason(error)}"
            raise ClientError(msg, failing(error)) from error
        return bytes(body)

    def _opened(self) -> "urllib3.PoolManager":
        """The pool, made at the first request: what TLS files hold may not be usable."""
        import urllib3

        from stator.client.transport import SOCKET_OPTIONS, Connections

        with self._lock:
            if self._pool is not None:
                return self._pool
            config = self._config
            self._pool = urllib3.PoolManager(
                num_pools=1,
                maxsize=2,
                cert_reqs="CERT_NONE" if config.skip_verify else "CERT_REQUIRED",
                ca_certs=config.ca_file or None,
                cert_file=config.cert_file or None,
                key_file=config.key_file or None,
                socket_options=SOCKET_OPTIONS,
            )
            self._connections = Connections()
            self._pool.pool_classes_by_scheme = self._connections.pools()
            if self._is_closed:
                self._connections.cut()
            if config.skip_verify:
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            return self._pool

    def _headers(self, more: Mapping[str, str], *, has_body: bool) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "stator"}
        if has_body:
            headers["Content-Type"] = "application/json"
        if self._config.user:
            # https://www.rfc-editor.org/rfc/rfc7617#section-2.1
            known = f"{self._config.user}:{self._config.password.reveal()}".encode()
            headers["Authorization"] = f"Basic {b64encode(known).decode()}"
        headers |= dict(header_pairs(self._config.headers)) | dict(more)
        if bad := [name for name, value in headers.items() if not is_header(name, value)]:
            msg = f"can't send header {', '.join(bad)}: a control character, or no name at all"
            raise ClientError(msg, "invalid")
        return headers

    def _shown(self, body: bytes) -> bytes | str:
        return "--skipped--" if self._config.skip_body and body else body

    def _nanoseconds_since(self, start: float) -> int:
        return int((self._clock() - start) * 1e9)
