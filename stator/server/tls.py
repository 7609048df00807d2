"""How TLS is served: its options, and the context that is made of them and of the files that they name."""

import logging
import ssl
import warnings
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple, Protocol

from attrs import evolve, field, frozen

from stator.server.memory_file import MemoryFile
from stator.server.tls_extension import alternative_names, distinguished_name
from stator.settings.watched import WatchedFiles

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
# OpenSSL's codes of why a certificate is refused: https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/
NOT_YET_VALID, HAS_EXPIRED, UNKNOWN_ISSUER = 9, 10, 20
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, for which ssl has no name

_LOG = logging.getLogger(__name__)


class TLSFileError(ValueError):
    """A file can't be used: `option` is what names it, and the message says what it should be."""

    def __init__(self, expected: str, option: str) -> None:
        super().__init__(expected)
        self.option = option


class ServedTLS(NamedTuple):
    """A context, and the options of which it was made."""

    context: ssl.SSLContext
    options: "TLSOptions"


class TLSContexts(Protocol):
    """Has what a new connection needs."""

    def get(self) -> ServedTLS:
        """Returns it, made of the files as they are now."""


@frozen
class TLSOptions:
    """Which certificate is served, and what is asked of clients."""

    cert_file: str
    key_file: str = ""  # empty: the certificate's file has the key, too
    client_ca_file: str = ""  # empty: no client is asked for a certificate
    client_auth: ssl.VerifyMode = ssl.CERT_OPTIONAL  # with a `client_ca_file`; who needs one depends on the path
    client_names: tuple[str, ...] = ()  # of which a client's certificate must have one; empty: any
    min_version: str = "1.2"
    max_version: str = ""  # empty: the newest
    ciphers: str = ""  # in OpenSSL's words, of TLS 1.2; empty: Python's choice
    curves: tuple[str, ...] = ()  # in OpenSSL's words; empty: its choice; before Python 3.15, one at most
    is_of_web_config: bool = False  # and not of the settings
    is_client_required: bool = False  # whether who has no certificate gets no answer, whatever the path
    client_sans: AbstractSet[str] | None = None  # of which a required certificate must have one; None: any
    in_memory: tuple[MemoryFile, ...] = field(default=(), repr=False, eq=False)  # which have some of the paths

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that are read, and may change."""
        constant = {"", *(each.path for each in self.in_memory)}
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path not in constant)

    def context(self) -> ssl.SSLContext:
        """Returns a context of the files as they are now; raises TLSFileError.

        Beside the least version these are what Python's defaults are, and said here so that they stay: no compression
        (CRIME), no renegotiation, our own order of ciphers. A session is never resumed, which would let in a client
        whose certificate has expired since.
        """
        context = self._without_files()
        for load in (self._load_certificate, self._load_client_authorities):
            load(context)
        return context

    def problems(self) -> Iterator[TLSFileError]:
        """Yields what is wrong with the files as they are now."""
        context = self._without_files()
        for load in (self._load_certificate, self._load_client_authorities):
            try:
                load(context)
            except TLSFileError as problem:
                yield problem

    def client_problem(self, certificate: Mapping[str, Any]) -> str:
        """Returns why a client gets no answer, by its certificate as ssl has it; empty if it may get one."""
        if not self.is_client_required:
            return ""
        if not certificate:
            return "it has no certificate"
        if self.client_sans is None or not self.client_sans.isdisjoint(alternative_names(certificate)):
            return ""
        name = distinguished_name(dict(certificate))
        return f"its certificate, that of {name}, has none of the alternative names in client_allowed_sans"

    def can_be_served(self) -> bool:
        """Returns whether any client can agree with us on how to encrypt; raises TLSFileError."""
        server, client = evolve(self, client_ca_file="").context(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        try:
            _shake_hands(client, server)
        except ssl.SSLError:
            return False
        return True

    def watch(self) -> WatchedFiles[ServedTLS]:
        """Returns what has the current context; logs what is wrong with the time of each certificate that is loaded."""
        return WatchedFiles(self._load, self.paths)

    def warnings(self) -> Iterator[str]:
        """Yields why clients will refuse the certificate, whatever authorities they trust; raises TLSFileError."""
        server = evolve(self, client_ca_file="").context()
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.minimum_version = server.minimum_version
        # The certificate itself is what is trusted, whoever has signed it.
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        client.load_verify_locations(self.cert_file)
        try:
            _shake_hands(client, server)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code == UNKNOWN_ISSUER:
                return  # the file was replaced since the server has read it, and will be read again
            reason = error.verify_message
            if error.verify_code in (NOT_YET_VALID, HAS_EXPIRED):
                client.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
                fields = _shake_hands(client, server) or {}
                has_expired = error.verify_code == HAS_EXPIRED
                seconds = ssl.cert_time_to_seconds(str(fields["notAfter" if has_expired else "notBefore"]))
                moment = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
                reason = f"it expired at {moment}" if has_expired else f"it is not valid before {moment}"
            place = next((each.name for each in self.in_memory if each.path == self.cert_file), self.cert_file)
            yield f"clients will refuse the certificate in {place}: {reason}"

    def _load(self) -> ServedTLS:
        context = self.context()
        for warning in self.warnings():
            _LOG.warning("%s", warning)
        return ServedTLS(context, self)

    def _without_files(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.0 and 1.1
            context.minimum_version = VERSIONS[self.min_version]
        if self.max_version:
            context.maximum_version = VERSIONS[self.max_version]
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        if self.ciphers:
            context.set_ciphers(self.ciphers)
        set_groups = getattr(context, "set_groups", None)
        if self.curves and set_groups:
            set_groups(":".join(self.curves))
        elif self.curves:
            context.set_ecdh_curve(self.curves[0])
        return context

    def _load_client_authorities(self, context: ssl.SSLContext) -> None:
        if not self.client_ca_file:
            return
        _check_file(self.client_ca_file, "client_ca_file", "a readable file of PEM certificates")
        try:
            context.load_verify_locations(self.client_ca_file)
        except (OSError, ValueError) as error:
            msg = f"a readable file of PEM certificates ({_explain(error)})"
            raise TLSFileError(msg, "client_ca_file") from error
        context.verify_mode = self.client_auth

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        for option, path in (("cert_file", self.cert_file), ("key_file", self.key_file)):
            if path:
                _check_file(path, option, "a readable PEM file")
        password = _Password()
        try:
            context.load_cert_chain(self.cert_file, self.key_file or None, password)
        except (OSError, ValueError) as error:
            is_key = bool(self.key_file) and (password.was_asked or _has_certificate(self.cert_file))
            if password.was_asked:
                msg = "a key that is not encrypted"
            elif getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
                msg = "the key that belongs to the certificate, and not another's"
            else:
                both = "" if self.key_file else ", with its key unless STTR_SERVER_KEYFILE names that,"
                msg = f"a PEM file of a {'key' if is_key else 'certificate'}{both} ({_explain(error)})"
            raise TLSFileError(msg, "key_file" if is_key else "cert_file") from error


def _check_file(path: str, option: str, expected: str) -> None:
    """Raises TLSFileError for what can't be read, or has no end, or would be waited for."""
    try:
        is_file = S_ISREG(Path(path).stat().st_mode)
        if is_file:
            Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        msg = f"{expected} ({_explain(error)})"
        raise TLSFileError(msg, option) from error
    if not is_file:
        msg = f"{expected} (not a regular file)"
        raise TLSFileError(msg, option)


class _Password:
    """Keeps OpenSSL from asking on the terminal for the password of a key."""

    was_asked = False

    def __call__(self) -> str:
        self.was_asked = True
        return ""


def _has_certificate(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError):
        return False
    return True


def _explain(error: Exception) -> str:
    """Returns what an error says, without the line of C code that ssl adds."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM block that can be read").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> Mapping[str, object] | None:
    """Connects the two in memory, and returns the server's certificate as the client has it; raises ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for _ in range(4):  # as many flights as a handshake has at most
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].getpeercert()
