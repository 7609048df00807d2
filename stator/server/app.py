"""The Falcon application: /metrics, /monitor and /config."""

from typing import TYPE_CHECKING, Any

import falcon
import falcon.asgi
import orjson

from stator.exporter import Exporter
from stator.log import Log
from stator.server.metrics import Formats, Metrics

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response


def create(exporter: Exporter, formats: Formats, shown_config: dict[str, Any], log: Log) -> "App[Request, Response]":
    """An application that exposes what an exporter collects.

    Args:
        exporter: What answers ``/metrics``.
        formats: What scrapers can be answered in.
        shown_config: What answers ``/config``, free of secrets.
        log: Where errors are told.
    """
    app: App[Request, Response] = falcon.asgi.App()
    app.add_route("/metrics", Metrics(exporter, formats))
    app.add_route("/monitor", Fixed({"status": "ok"}))
    app.add_route("/config", Fixed({"config": shown_config}))
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

    async def __call__(
        self, _req: "Request", resp: "Response | None", error: Exception, _params: dict[str, Any]
    ) -> None:
        """Answers with status 500."""
        self._log.error("failed to answer", error=error)
        _answer(resp, falcon.HTTP_500, b'{"error":"internal server error"}')


async def _not_found(_req: "Request", resp: "Response | None", _error: Exception, _params: dict[str, Any]) -> None:
    _answer(resp, falcon.HTTP_404, b'{"not":"found"}')


async def _refused(_req: "Request", resp: "Response | None", error: falcon.HTTPError, _params: dict[str, Any]) -> None:
    _answer(resp, error.status, orjson.dumps({"error": error.title}), error.headers)


def _answer(resp: "Response | None", status: str | int, body: bytes, headers: Any = None) -> None:
    if resp is None:
        return  # a WebSocket, which gunicorn refuses where nobody accepts it
    resp.status, resp.data = status, body
    resp.set_headers(headers or {})
