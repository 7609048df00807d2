"""What a scrape says of an application's requests."""

import asyncio
import io
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults

from prometheus_client.parser import text_string_to_metric_families

from tests.web.asgi import Reply, call

Count = tuple[str, str, str, str]


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The values of a sample by its labels' values."""
    families = text_string_to_metric_families(text)
    return {
        tuple(each.labels.values()): each.value for family in families for each in family.samples if each.name == name
    }


def counts(text: str) -> Counter[Count]:
    """How many requests were counted, by method, route, status and error."""
    found: Counter[Count] = Counter()
    for labels, value in samples(text, "http_server_request_duration_seconds_count").items():
        method, _, route, status, error, *_ = *labels, ""
        found[method, route, status, error] += int(value)
    return found


def scrape_asgi(app: Any) -> str:
    """The body of a scrape's response."""
    return asyncio.run(call(app, "GET", "/metrics")).body.decode()


def ask_wsgi(app: Any, target: str = "/", method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> Reply:
    """Asks an application as a server does."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []
    body = app(wsgi_environ(target, method, headers), lambda status, headers, _=None: begun.append((status, headers)))
    try:
        data = b"".join(body)
    finally:
        getattr(body, "close", lambda: None)()
    status, sent = begun[-1]
    return Reply(int(status[:3]), {name.lower(): value for name, value in sent}, data)


def wsgi_environ(target: str = "/", method: str = "GET", headers: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
    """A request's environ."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers}
    setup_testing_defaults(environ)
    return environ | {"wsgi.errors": io.StringIO(), "REMOTE_ADDR": "10.1.2.3", "REMOTE_PORT": "4567"}


def scrape_wsgi(app: Callable[..., Iterable[bytes]]) -> str:
    """The body of a scrape's response."""
    return ask_wsgi(app, "/metrics").body.decode()
