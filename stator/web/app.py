"""The Falcon applications: /metrics, /monitor, and for the standalone server /config."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import falcon
import falcon.asgi
import orjson

from stator.exporter import Exporter
from stator.log.logger import Log
from stator.web.checks import Checks
from stator.web.metrics import Metrics, MetricsWSGI, Negotiator
from stator.web.monitor import Monitor, MonitorWSGI

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response


def asgi_app(
    exporter: Exporter, formats: Negotiator, shown_config: dict[str, Any] | None, log: Log, checks: Checks | None = None
) -> "App[Request, Response]":
    """An ASGI application that exposes what an exporter collects.

    Args:
        exporter: What answers ``/metrics``.
        formats: What scrapers can be answered in.
        shown_config: What answers ``/config``, free of secrets; None for no such path.
        log: Where errors are told.
        checks: What answers ``/monitor``; None for none.
    """
    app: App[Request, Response] = falcon.asgi.App()
    app.add_route("/metrics", Metrics(exporter, formats))
    app.add_route("/monitor", Monitor(checks or Checks({}, log)))
    if shown_config is not None:
        app.add_route("/config", Fixed({"config": shown_config}))
    app.add_error_handler(falcon.HTTPRouteNotFound, _awaited(_not_found))
    app.add_error_handler(falcon.HTTPError, _awaited(_refused))
    app.add_error_handler(Exception, _awaited(Failed(log)))
    return app


def wsgi_app(
    exporter: Exporter, formats: Negotiator, log: Log, checks: Checks
) -> "falcon.App[falcon.Request, falcon.Response]":
    """The same as a WSGI application."""
    app = falcon.App()
    app.add_route("/metrics", MetricsWSGI(exporter, formats))
    app.add_route("/monitor", MonitorWSGI(checks))
    app.add_error_handler(falcon.HTTPRouteNotFound, _not_found)
    app.add_error_handler(falcon.HTTPError, _refused)
    app.add_error_handler(Exception, Failed(log))
    return app


class Fixed:
    """Answers with the same JSON always."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._body = orjson.dumps(answer)

    async def on_get(self, _req: "Request", resp: "Response") -> None:
        """Answers."""
        resp.data = self._body

    on_head = on_get


class Failed:
    """Tells of an error that nobody foresaw, in the log in full and to the client in brief."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, _req: Any, resp: "falcon.Response | None", error: Exception, _params: dict[str, Any]) -> None:
        """Answers with status 500."""
        self._log.error("failed to answer", error=error)
        _answer(resp, falcon.HTTP_500, b'{"error":"internal server error"}')


def _awaited(handler: Callable[[Any, Any, Any, Any], None]) -> Any:
    """An error handler as ASGI wants it."""

    async def handle(req: Any, resp: Any, error: Any, params: Any) -> None:
        handler(req, resp, error, params)

    return handle


def _not_found(_req: Any, resp: "falcon.Response | None", _error: Exception, _params: dict[str, Any]) -> None:
    _answer(resp, falcon.HTTP_404, b'{"not":"found"}')


def _refused(_req: Any, resp: "falcon.Response | None", error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    _answer(resp, error.status, orjson.dumps({"error": error.title}), error.headers)


def _answer(resp: "falcon.Response | None", status: str | int, body: bytes, headers: Any = None) -> None:
    if resp is None:
        return  # a WebSocket, which gunicorn refuses where nobody accepts it
    resp.status, resp.data = status, body
    resp.set_headers(headers or {})
