"""Why a request failed: in a word, to count by, and in a sentence, to read."""

import ssl
from http.client import BadStatusLine, RemoteDisconnected
from typing import Literal, TypeAlias

import urllib3

ErrorKind: TypeAlias = Literal["unreachable", "timeout", "invalid", "status"]
"""How a request may fail: no connection or one that broke, no answer in time, no sensible one, a bad status."""

# OpenSSL's codes of "self-signed certificate", the same "in certificate chain", "unable to get local issuer
# certificate" and "unable to verify the first certificate":
# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/#error-codes
_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})


def failing(error: Exception) -> ErrorKind:
    """How a request failed, by the error that urllib3 or the socket raised."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case urllib3.exceptions.NewConnectionError() | RemoteDisconnected():
                return "unreachable"
            case TimeoutError() | urllib3.exceptions.TimeoutError():
                return "timeout"
            case BadStatusLine() | ValueError():
                return "invalid"
        cause = cause.__cause__ or cause.__context__
    return "unreachable"


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
