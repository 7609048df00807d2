"""What went wrong when a client and we agreed on how to encrypt, for a reader."""

import logging
import ssl
from http import HTTPStatus

from stator.log.counted import CountedLog
from stator.server.refusals import Refused

HTTP = Refused(HTTPStatus.BAD_REQUEST, "the request was http, and this port speaks https")
TIMED_OUT = "it did not finish in time"
LEFT = "it closed the connection"
# By ssl's `reason`. What begins with "it refuses" is what the client says of us.
_REASONS = {
    "HTTP_REQUEST": "it speaks http, and this port speaks https",
    "HTTPS_PROXY_REQUEST": "it takes this port for that of a proxy",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS",
    "RECORD_LAYER_FAILURE": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it wants an older version of TLS than STTR_SERVER_TLSMINVERSION allows",
    "VERSION_TOO_LOW": "it wants an older version of TLS than STTR_SERVER_TLSMINVERSION allows",
    "NO_SHARED_CIPHER": "it knows none of our cipher suites",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it refuses our versions of TLS",
    "TLSV1_ALERT_UNKNOWN_CA": "it refuses our certificate, since it does not know the authority",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate, since that has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate: it does not know the authority, or wants another name",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it refuses our certificate, which is of a kind that it does not support",
}
# Keys of a web configuration file, by the settings in whose place they stand.
_KEYS = {"STTR_SERVER_CLIENTCAFILE": "client_ca", "STTR_SERVER_TLSMINVERSION": "min_version"}


class HandshakeLog:
    """Logs failed handshakes."""

    def __init__(self) -> None:
        self._log = CountedLog(logging.getLogger(__name__))
        self.flush = self._log.flush

    def failed(self, client: tuple[str, int] | None, reason: str) -> None:
        """Logs that the handshake with a client failed."""
        host = client[0].removeprefix("::ffff:") if client else "a client"
        self._log.warning(f"TLS handshake with {host} failed: {reason}")


def explain(error: ssl.SSLError, *, by_web_config: bool = False) -> str:
    """Returns why a handshake failed; `by_web_config` is whether a web configuration file says what is allowed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is refused by what STTR_SERVER_CLIENTCAFILE trusts: {error.verify_message}"
    else:
        reason = str(error.reason or "")
        text = _REASONS.get(reason) or reason.lower().replace("_", " ") or str(error)
    for setting, key in _KEYS.items() if by_web_config else ():
        text = text.replace(setting, key)
    return text
