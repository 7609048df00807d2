"""Settings of the HTTP client."""

from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import frozen

from stator.client.headers import HEADER_PAIRS, HEADER_SYNTAX, header_pairs, is_header, redact_pairs
from stator.log.logger import Log
from stator.settings.declare import Secret, positive, setting
from stator.settings.duration import Duration
from stator.settings.masking import Mask, mask_uris

if TYPE_CHECKING:
    from stator.client.logged import LoggedClient


@frozen(eq=False, repr=False)
class ClientConfig:
    """How to reach the discovery service."""

    base_uri: str = setting("", desc="discovery service, ex: http://localhost:8500; unset: no discovery")
    timeout: Duration = setting(Duration.parse("1m"), desc="request timeout", check=positive)
    timeout_short: Duration = setting(Duration.parse("10s"), desc="dialer and header timeout", check=positive)
    headers: tuple[str, ...] = setting(
        (),
        desc="header pairs to be sent with every request: name,value,name,value",
        check=HEADER_PAIRS,
        show=lambda config, words: redact_pairs(words, config.secret_headers),
    )
    skip_verify: bool = setting(default=False, desc="skip cert verification")
    user: str = setting("", desc="username for basic auth")
    password: Secret = setting(Secret(), desc="password for basic auth", env="PASS")
    redact_headers: tuple[str, ...] = setting((), desc="headers to redact, beside all that may be secret")
    skip_body: bool = setting(default=False, desc="skip logging of body for request and response")
    ca_file: str = setting("", desc="PEM file of the authorities to trust, instead of the system's")
    cert_file: str = setting("", desc="PEM file of the client certificate")
    key_file: str = setting("", desc="PEM file of the client certificate's key")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields what is wrong between settings, or with a URI or file that they name."""
        if self.base_uri:
            yield from self._uri_problems()
        if not all(is_header(*pair) for pair in header_pairs(self.headers)):
            yield "headers", HEADER_SYNTAX
        if self.key_file and not self.cert_file:
            yield "key_file", "STTR_CLIENT_CERTFILE to be set too"
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
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca_file:
                context.load_verify_locations(self.ca_file)
        except (OSError, ValueError) as error:
            yield "ca_file", f"a readable file of PEM certificates ({error})"
        try:
            if self.cert_file:
                # The empty password keeps OpenSSL from asking for one on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file or None, password="")
        except (OSError, ValueError) as error:
            yield "cert_file", f"a readable PEM file of a certificate, with its key unencrypted ({error})"

    @property
    def secret_headers(self) -> frozenset[str]:
        """The names of headers to hide, in lower case."""
        return frozenset(name.lower() for name in self.redact_headers)

    def request_headers(self) -> dict[str, str]:
        """Returns the headers of every request, with the password as it is now."""
        headers = {"Accept": "application/json", "User-Agent": "stator"}
        if self.user:
            credentials = f"{self.user}:{self.password.reveal()}".encode()  # RFC 7617, section 2.1
            headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
        return headers | dict(header_pairs(self.headers))

    def build(self, log: Log, mask: Mask = mask_uris) -> "LoggedClient":
        """Returns a client that logs what it sends and receives; `mask` masks secrets in its errors."""
        from stator.client.client import Client
        from stator.client.logged import LoggedClient
        from stator.client.transport import tls_context

        if self.password and not self.user:
            log.warning("STTR_CLIENT_PASS is ignored, since STTR_CLIENT_USER is not set")
        tls = partial(tls_context, self.ca_file, self.cert_file, self.key_file, skip_verify=self.skip_verify)
        client = Client(urlsplit(self.base_uri), tls, self.timeout.seconds, self.timeout_short.seconds, mask)
        return LoggedClient(client, self.request_headers, log, self.secret_headers, self.skip_body)
