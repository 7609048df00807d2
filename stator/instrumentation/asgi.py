"""Observes an ASGI application's requests.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from stator.instrumentation import frameworks
from stator.instrumentation.access import Headers, Peer
from stator.instrumentation.exchange import RESPONSE_ID, Exchange, Observer
from stator.instrumentation.routes import ERROR, ASGIRoutes
from stator.log.request import RequestContext

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


class ASGIMiddleware:
    """Passes requests on to an application, and observes them."""

    def __init__(self, app: App, observer: Observer) -> None:
        self._app, self._observer, self._routes = app, observer, ASGIRoutes(app)
        try:
            frameworks.prepare(app)
        except Exception as error:  # noqa: BLE001 # ours is never the application's
            observer.fault("route", error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._connect(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = ASGIExchange(self._observer, scope, self._routes)

        async def observed(message: Message) -> None:
            is_last = False
            try:
                kind = message["type"]
                if kind == "http.response.body":
                    is_last = not message.get("more_body", False)
                    exchange.sizes[1] += len(message.get("body", b""))
                elif kind == "http.response.start":
                    message = exchange.started(message)
                elif kind == "http.response.pathsend":
                    is_last = True
            except Exception as error:  # noqa: BLE001 # ours is never the application's
                self._observer.fault("response", error)
            await send(message)
            if is_last:
                exchange.mark_sent()

        if self._observer.metrics.has_sizes:
            receive = _measured(receive, exchange)
        try:
            await self._app(scope, receive, observed)
        except BaseException as error:
            exchange.fail(error, answers=not exchange.status)
            raise
        finally:
            exchange.end()

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        cell = self._observer.metrics.websockets
        try:
            cell.inc(1.0)
        except Exception as error:  # noqa: BLE001
            self._observer.fault("metrics", error)
        try:
            await self._app(scope, receive, send)
        finally:
            try:
                cell.inc(-1.0)
            except Exception as error:  # noqa: BLE001
                self._observer.fault("metrics", error)


class ASGIExchange(Exchange):
    """A request that came by ASGI."""

    __slots__ = ("_path", "_root", "_routes", "_scope", "_was_routed")

    def __init__(self, observer: Observer, scope: Scope, routes: ASGIRoutes) -> None:
        # Routers change the scope: these are what a route must be found by again.
        self._scope, self._routes = scope, routes
        self._path, self._root, self._was_routed = scope["path"], scope.get("root_path", ""), scope.get("route")
        super().__init__(observer, scope["method"], scope.get("scheme", "http"))

    def started(self, message: Message) -> Message:
        """Returns the message that begins the response, with the request's id in it."""
        self.status = int(message["status"])
        headers = list(message.get("headers", ()))
        self.response_headers = headers
        if self.context is None or any(name == RESPONSE_ID for name, _ in headers):
            return message
        # A new message: the application may send its own again.
        return {**message, "headers": [*headers, (RESPONSE_ID, self.ids["request_id"].encode())]}

    def read_context(self) -> RequestContext:
        """Returns the request's ids."""
        return RequestContext.of_headers(self._scope["headers"])

    def peer(self) -> Peer:
        """Returns what the log says of the request."""
        scope = self._scope
        host, port = scope.get("client") or ("", 0)
        query = scope.get("query_string", b"").decode("latin-1")
        return Peer(scope["method"], self._path, query, host.removeprefix("::ffff:"), str(port or ""))

    def request_headers(self) -> Headers:
        """Returns the request's headers as text."""
        return _texts(self._scope["headers"])

    def response_texts(self) -> Headers:
        """Returns the response's headers as text."""
        return _texts(self.response_headers)

    def route(self) -> str:
        """Returns the template of the request's route; empty if there is none."""
        if not self.error:
            self.error = self._scope.get(ERROR, "")
        if self.context and self.context.route:
            return self.context.route
        return self._routes.template(self._scope, self._path, self._root, self._was_routed)


def _texts(headers: Any) -> Headers:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _measured(receive: Receive, exchange: Exchange) -> Receive:
    """Returns a `receive` that adds up the request's body."""

    async def measured() -> Message:
        message = await receive()
        exchange.sizes[0] += len(message.get("body", b""))
        return message

    return measured
