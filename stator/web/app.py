"""The Falcon applications: /metrics, /monitor and what is below it, /config, and the page with /status."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

import falcon.asgi
import msgspec

from stator.exporter import Exporter
from stator.exposition.negotiation import Negotiator
from stator.log.logger import Log
from stator.web.access_log import App
from stator.web.checks import Checks
from stator.web.metrics import Metrics
from stator.web.monitor import Monitor
from stator.web.status.place import ALONE, EMBEDDED
from stator.web.status.routes import add_page_routes

if TYPE_CHECKING:
    from stator.web.status.facts import Status

# Paths that the page leads to.
LINKS = ("metrics", "monitor", "status")


def asgi_app(
    exporter: Exporter,
    negotiator: Negotiator,
    config: dict[str, Any] | None,
    log: Log,
    checks: Checks | None = None,
    status: "Callable[[], Status] | None" = None,
) -> App:
    """Returns an ASGI application; it answers ``/config`` with `config`, without secrets, unless that is None.

    With a `status`, a function that returns what the page shows, it has the page: at ``/`` where there is a `config`,
    as in the program, or at ``/status/page``.
    """
    app: falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response] = falcon.asgi.App()
    _add_routes(app, Metrics(exporter, negotiator), Monitor(checks or Checks({}, log)), log, suffix="async")
    if config is not None:
        app.add_route("/config", ConfigResource(config), suffix="async")
    if status is not None:
        place, links = (EMBEDDED, LINKS) if config is None else (ALONE, (*LINKS, "config"))
        add_page_routes(app, status, place, links, suffix="async")
    return app


def wsgi_app(
    exporter: Exporter, negotiator: Negotiator, log: Log, checks: Checks, status: "Callable[[], Status] | None" = None
) -> WSGIApplication:
    """Returns the same as a WSGI application, without ``/config``."""
    app = falcon.App()
    _add_routes(app, Metrics(exporter, negotiator), Monitor(checks), log)
    if status is not None:
        add_page_routes(app, status, EMBEDDED, LINKS)
    return app


class ConfigResource:
    """Answers with the configuration as JSON."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._body = msgspec.json.encode({"config": config})

    async def on_get_async(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answers."""
        resp.data = self._body
        resp.cache_control = ["no-store"]

    on_head_async = on_get_async


def _add_routes(
    app: "falcon.App[Any, Any]", metrics: Metrics, monitor: Monitor, log: Log, suffix: str | None = None
) -> None:
    """Adds the resources, and answers in JSON to errors."""

    def internal_error(_req: Any, resp: Any, error: Any, _params: Any) -> None:
        log.error("failed to answer", error=error)
        _answer(resp, falcon.HTTP_500, b'{"error":"internal server error"}')

    app.req_options.strip_url_path_trailing_slash = True
    app.add_route("/metrics", metrics, suffix=suffix)
    app.add_route("/monitor", monitor, suffix=suffix)
    app.add_route("/monitor/ready", monitor, suffix=suffix)
    app.add_route("/monitor/live", Monitor(Checks({}, log)), suffix=suffix)
    for error, handler in {falcon.HTTPError: _http_error, Exception: internal_error}.items():
        app.add_error_handler(error, _awaited(handler) if suffix else handler)


def _awaited(handler: Callable[[Any, Any, Any, Any], None]) -> Any:
    """Returns an error handler for Falcon's ASGI application, which awaits it."""

    async def handle(req: Any, resp: Any, error: Any, params: Any) -> None:
        handler(req, resp, error, params)

    return handle


def _http_error(_req: Any, resp: Any, error: Any, _params: Any) -> None:
    answer = {"not": "found"} if isinstance(error, falcon.HTTPRouteNotFound) else {"error": error.title}
    _answer(resp, error.status, msgspec.json.encode(answer), error.headers)


def _answer(resp: falcon.Response | None, status: str | int, body: bytes, headers: Any = None) -> None:
    if resp is not None:  # a WebSocket has none: the server refuses it where nobody accepts it
        resp.status, resp.data = status, body
        resp.set_headers(headers or {})
