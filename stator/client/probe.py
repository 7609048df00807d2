"""Whether a service of this host's answers yet."""

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl


def is_ready(url: str) -> bool:
    """Asks for its health; over HTTPS whatever its certificate says, which is for others.

    Returns:
        Whether it answered with status 200, within a second.
    """
    import http.client  # slow to import

    target = urlsplit(url)
    where = target.hostname or "", target.port
    if target.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(*where, timeout=1, context=_unverified())
    else:
        connection = http.client.HTTPConnection(*where, timeout=1)
    try:
        path = target._replace(scheme="", netloc="", fragment="").geturl()
        connection.request("GET", path or "/", headers={"User-Agent": "stator"})
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _unverified() -> "ssl.SSLContext":
    import ssl  # slow to import

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
