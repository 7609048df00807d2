"""Headers that tell browsers how little our answers may do; all of our answers have them."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias
from wsgiref.types import StartResponse

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Scripts and styles come from files of ours alone, and nobody may frame our pages: https://www.w3.org/TR/CSP3/
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
)
RAW_SECURITY_HEADERS = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS)


def with_security(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the headers of an ASGI response, with those of ours that it does not have."""
    headers = list(headers)
    names = {name for name, _ in headers}
    return [*headers, *(header for header in RAW_SECURITY_HEADERS if header[0] not in names)]


def send_securely(send: Send) -> Send:
    """Returns an ASGI `send` that adds the headers to a response."""

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": with_security(message.get("headers", ()))}
        await send(message)

    return send_with_headers


def start_securely(start_response: StartResponse) -> StartResponse:
    """Returns a WSGI `start_response` that adds the headers."""

    def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
        names = {name.title() for name, _ in headers}
        own = [(name, value) for name, value in SECURITY_HEADERS if name not in names]
        return start_response(status, [*headers, *own], *error)

    return start
