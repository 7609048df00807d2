"""Observes an ASGI application's requests.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from stator.access.requests import remote_of_scope
from stator.instrumentation import frameworks
from stator.instrumentation.access import Headers, Peer
from stator.instrumentation.exchange import Exchange, Observer
from stator.instrumentation.routes import ASGIRoutes
from stator.log.request import REQUEST_ID

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
_REQUEST_ID = REQUEST_ID.lower().encode()


def observe_asgi(app: App, observer: Observer) -> App:
    """Returns an application that passes requests on to another, and observes them."""
    routes, has_sizes = ASGIRoutes(app), observer.metrics.has_sizes
    try:
        frameworks.prepare(app)
    except Exception as error:  # noqa: BLE001 # ours is never the application's
        observer.fault("route", error)

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _pass_on(app, observer, scope, receive, send)
            return
        exchange = ASGIExchange(observer, scope, routes, send)
        try:
            await app(scope, _measured(receive, exchange) if has_sizes else receive, exchange.send)
        except BaseException as error:
            exchange.fail(error, answers=not exchange.status)
            raise
        finally:
            exchange.end()

    return observed


async def _pass_on(app: App, observer: Observer, scope: Scope, receive: Receive, send: Send) -> None:
    """Passes on what is no HTTP request; an open WebSocket is counted."""
    cell = observer.metrics.websockets if scope["type"] == "websocket" else None
    if cell is None:
        await app(scope, receive, send)
        return
    try:
        cell.inc(1.0)
    except Exception as error:  # noqa: BLE001
        observer.fault("metrics", error)
    try:
        await app(scope, receive, send)
    finally:
        try:
            cell.inc(-1.0)
        except Exception as error:  # noqa: BLE001
            observer.fault("metrics", error)


class ASGIExchange(Exchange):
    """A request that came by ASGI."""

    __slots__ = ("_path", "_root", "_routes", "_send", "_was_routed")

    def __init__(self, observer: Observer, scope: Scope, routes: ASGIRoutes, send: Send) -> None:
        self._routes, self._send = routes, send
        # Routers change the scope: these are what a route must be found by again.
        self._path, self._was_routed = scope.get("path", ""), scope.get("route")
        # An application that is mounted in another has its root path from there, others may have one of their own.
        self._root = scope.get("root_path", "") if "app_root_path" in scope else None
        super().__init__(observer, scope, scope.get("method", ""), scope.get("scheme", "http"))

    async def send(self, message: Message) -> None:
        """Sends a message of the application's, and notes what is in it."""
        is_last = False
        try:
            kind = message["type"]
            if kind == "http.response.body":
                is_last = not message.get("more_body", False)
                self.sent += len(message.get("body", b""))
            elif kind == "http.response.start":
                message = self.started(message)
            elif kind == "http.response.pathsend":
                is_last = True
        except Exception as error:  # noqa: BLE001 # ours is never the application's
            self.observer.fault("response", error)
        if is_last:
            self.mark_sent()  # before the client can have it: a worker may be killed at any moment
        await self._send(message)

    def fail(self, error: BaseException, *, answers: bool) -> None:
        """Notes the error that ended the request, unless it says that the client has left."""
        if not frameworks.is_disconnect(error):
            super().fail(error, answers=answers)
        elif self.status >= 500:  # Starlette's answer to its own error has reached nobody
            self.status = 0

    def started(self, message: Message) -> Message:
        """Returns the message that begins the response, with the request's id in it."""
        self.status = int(message["status"])
        headers = self.response_headers = list(message.get("headers", ()))
        for name, _ in headers:
            if name == _REQUEST_ID:
                break
        else:
            if self.ids:
                headers = [*headers, (_REQUEST_ID, self.ids["request_id"].encode())]
        # A new message: the application may send its own again, whose headers may be an iterator.
        return {**message, "headers": headers}

    def read_context(self) -> None:
        """Reads the request's ids."""
        self.read_headers(self.source["headers"])

    def peer(self) -> Peer:
        """Returns what the log says of the request."""
        scope = self.source
        address, port = remote_of_scope(scope, self.observer.proxies)
        return scope["method"], self._path, address, port

    def query(self) -> str:
        """Returns the request's query, as it came."""
        query: bytes = self.source.get("query_string", b"")
        return query.decode("latin-1")

    def request_headers(self) -> Headers:
        """Returns the request's headers as text."""
        return _texts(self.source["headers"])

    def response_texts(self) -> Headers:
        """Returns the response's headers as text."""
        return _texts(self.response_headers)

    def find_route(self) -> str:
        """Returns the template by which a framework routed the request; empty if there is none."""
        scope, root = self.source, self._root
        if root is None:
            root = scope.get("app_root_path", scope.get("root_path", ""))
        return self._routes.template(scope, self._path, root, self._was_routed)


def _texts(headers: Any) -> Headers:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _measured(receive: Receive, exchange: Exchange) -> Receive:
    """Returns a `receive` that adds up the request's body."""

    async def measured() -> Message:
        message = await receive()
        exchange.received += len(message.get("body", b""))
        return message

    return measured
