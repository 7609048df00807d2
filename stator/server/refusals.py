"""Requests that are refused before the application sees them, or all of them."""

from collections.abc import Iterable
from http import HTTPStatus

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

# Limits of a request's head: bytes of its target, bytes in all, number of headers.
MAX_TARGET, MAX_HEAD, MAX_HEADERS = 8190, 16 * 1024, 100

# What matters of `stator.web.headers` to an answer that is no page.
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


class Refused(Exception):  # noqa: N818 # an answer rather than an error
    """A request is refused, with a status and for a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason

    def answer(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Returns the answer to the client, with headers that all answers have."""
        body = msgspec.json.encode({"error": self.reason})
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *SECURITY, CLOSE_HEADER]
        lines = [b"%s: %s\r\n" % header for header in (*headers, *own)]
        return b"".join([STATUS_LINE[self.status], *lines, b"\r\n", body])


def check_head(target: bytes, size: int, headers: int) -> None:
    """Raises Refused if the head of a request, or what has come of it, is too long."""
    if len(target) > MAX_TARGET:
        raise Refused(HTTPStatus.REQUEST_URI_TOO_LONG, f"more than {MAX_TARGET} bytes of target")
    if size > MAX_HEAD or headers > MAX_HEADERS:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        raise Refused(status, f"more than {MAX_HEAD} bytes of head, or {MAX_HEADERS} headers")


def refusal(error: httptools.HttpParserError) -> Refused:
    """Returns what the parser's error means to the client."""
    if isinstance(error.__context__, Refused):
        return error.__context__
    is_ours = isinstance(error, httptools.HttpParserCallbackError)  # uvicorn's, which does not understand the target
    return Refused(HTTPStatus.BAD_REQUEST, "invalid request target" if is_ours else str(error))
