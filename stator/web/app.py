"""The Falcon applications: /metrics, /monitor, and for the standalone server /config."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import falcon
import falcon.asgi
import msgspec

from stator.exporter import Exporter
from stator.exposition.negotiation import Negotiator
from stator.log.logger import Log
from stator.web.checks import Checks
from stator.web.metrics import Metrics, MetricsWSGI
from stator.web.monitor import Monitor, MonitorWSGI

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response


def asgi_app(
    exporter: Exporter, negotiator: Negotiator, config: dict[str, Any] | None, log: Log, checks: Checks | None = None
) -> "App[Request, Response]":
    """Returns an ASGI application; each of its paths may end in a slash.

    Args:
        exporter: Answers ``/metrics``.
        negotiator: Chooses the format in which a scraper is answered.
        config: What ``/config`` answers, without secrets; None for no such path.
        log: Where unexpected errors are logged.
        checks: Answers ``/monitor``; None for no checks.
    """
    app: App[Request, Response] = falcon.asgi.App()
    app.req_options.strip_url_path_trailing_slash = True
    app.add_route("/metrics", Metrics(exporter, negotiator))
    app.add_route("/monitor", Monitor(checks or Checks({}, log)))
    if config is not None:
        app.add_route("/config", ConfigResource(config))
    app.add_error_handler(falcon.HTTPRouteNotFound, _awaited(_not_found))
    app.add_error_handler(falcon.HTTPError, _awaited(_http_error))
    app.add_error_handler(Exception, _awaited(InternalError(log)))
    return app


def wsgi_app(
    exporter: Exporter, negotiator: Negotiator, log: Log, checks: Checks
) -> "falcon.App[falcon.Request, falcon.Response]":
    """Returns the same as a WSGI application, without ``/config``."""
    app = falcon.App()
    app.req_options.strip_url_path_trailing_slash = True
    app.add_route("/metrics", MetricsWSGI(exporter, negotiator))
    app.add_route("/monitor", MonitorWSGI(checks))
    app.add_error_handler(falcon.HTTPRouteNotFound, _not_found)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(Exception, InternalError(log))
    return app


class ConfigResource:
    """Answers with the configuration as JSON."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._body = msgspec.json.encode({"config": config})

    async def on_get(self, _req: "Request", resp: "Response") -> None:
        """Answers."""
        resp.data = self._body

    on_head = on_get


class InternalError:
    """Answers a request that ended in an unexpected error: in full to the log, and in brief to the client."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __call__(self, _req: Any, resp: "falcon.Response | None", error: Exception, _params: dict[str, Any]) -> None:
        """Answers with status 500."""
        self._log.error("failed to answer", error=error)
        _answer(resp, falcon.HTTP_500, b'{"error":"internal server error"}')


def _awaited(handler: Callable[[Any, Any, Any, Any], None]) -> Any:
    """An error handler for Falcon's ASGI application, which awaits it."""

    async def handle(req: Any, resp: Any, error: Any, params: Any) -> None:
        handler(req, resp, error, params)

    return handle


def _not_found(_req: Any, resp: "falcon.Response | None", _error: Exception, _params: dict[str, Any]) -> None:
    _answer(resp, falcon.HTTP_404, b'{"not":"found"}')


def _http_error(_req: Any, resp: "falcon.Response | None", error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    _answer(resp, error.status, msgspec.json.encode({"error": error.title}), error.headers)


def _answer(resp: "falcon.Response | None", status: str | int, body: bytes, headers: Any = None) -> None:
    if resp is None:
        return  # a WebSocket, which the server refuses where nobody accepts it
    resp.status, resp.data = status, body
    resp.set_headers(headers or {})
