"""The client's connections: urllib3's, whose answers can't be held up a byte at a time, and why one failed.

A socket's timeout holds for each single read; a peer that sends a byte now and then would never run into it.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import BadStatusLine
from typing import TypeVar

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

C = TypeVar("C", bound=HTTPConnection)
R = TypeVar("R")


def _in_time(getresponse: Callable[[C], R]) -> Callable[[C], R]:
    """Has an answer's status and headers come within the connection's timeout, all of them together."""

    def bounded(connection: C) -> R:
        late = threading.Event()
        watch = threading.Timer(connection.timeout or 0, _hang_up, (connection.sock, late))
        watch.daemon = True
        watch.start()
        try:
            return getresponse(connection)
        finally:
            watch.cancel()
            # The cut may have looked like the headers' end.
            if late.is_set():
                msg = "timed out"
                raise TimeoutError(msg) from None

    return bounded


def _hang_up(connected: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


class _Http(HTTPConnection):
    getresponse = _in_time(HTTPConnection.getresponse)


class _Https(HTTPSConnection):
    getresponse = _in_time(HTTPSConnection.getresponse)  # type: ignore[assignment] # urllib3's differs from its base's


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Https


POOLS: dict[str, type[urllib3.HTTPConnectionPool]] = {"http": _HttpPool, "https": _HttpsPool}
"""Pools of such connections, by a URI's scheme."""

# OpenSSL's codes of "self-signed certificate", the same "in certificate chain", "unable to get local issuer
# certificate" and "unable to verify the first certificate":
# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/#error-codes
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})


def reason(error: BaseException) -> str:
    """The last cause in a chain of wrapped errors, which names what happened: ``Connection refused``."""
    context = None if error.__suppress_context__ else error.__context__
    inner = getattr(error, "reason", None) or error.__cause__ or context
    if isinstance(inner, BaseException) and inner is not error:
        return reason(inner)
    if isinstance(error, BadStatusLine) and not isinstance(error, OSError):
        return f"not an HTTP answer: {str(error)[:80]!r}"
    strerror = getattr(error, "strerror", None)
    said = strerror if isinstance(strerror, str) else str(error) or type(error).__name__
    return said + _remedy(error)


def _remedy(error: BaseException) -> str:
    """What would mend a failed TLS handshake, where the error itself tells it."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _UNKNOWN_AUTHORITY:
        return "; STTR_CLIENT_CAFILE names the authorities to trust"
    alert = str(error.reason) if isinstance(error, ssl.SSLError) else ""
    if "ALERT" in alert and ("CERTIFICATE" in alert or "UNKNOWN_CA" in alert):
        return "; it wants a certificate that it trusts: STTR_CLIENT_CERTFILE and STTR_CLIENT_KEYFILE"
    return ""
