"""Calls ASGI applications as a server does.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

from stator.web.access_log import App, Message


class Reply(NamedTuple):
    """What an application sent."""

    status: int
    headers: dict[str, str]
    body: bytes


def scope(method: str, target: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    """A request's scope."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "server": ("127.0.0.1", 8087),
        "client": ("10.1.2.3", 4567),
        **more,
    }


async def call(
    app: App,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    parts: Iterable[bytes] = (b"",),
    *,
    ends: bool = True,
    **more: Any,
) -> Reply:
    """Asks an application.

    Args:
        app: The application.
        method: HTTP method.
        target: Path and query.
        headers: The request's headers.
        parts: The request's body, part by part.
        ends: Whether the body ends with the last part; if not, nothing more comes.
        more: Other keys of the scope.
    """
    coming: asyncio.Queue[Message] = asyncio.Queue()
    whole = list(parts)
    for number, part in enumerate(whole, 1):
        coming.put_nowait({"type": "http.request", "body": part, "more_body": number < len(whole) or not ends})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope(method, target, headers, **more), coming.get, send)
    if not sent:
        return Reply(0, {}, b"")
    headers_sent = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Reply(sent[0]["status"], headers_sent, b"".join(message.get("body", b"") for message in sent[1:]))
