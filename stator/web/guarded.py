"""Applications that a guard stands before: it refuses requests, or has answers leave something out."""

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from math import inf
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import falcon.asgi

from stator.access.guard import Decision, Guard
from stator.access.proxies import TrustedProxies
from stator.access.requests import Request, request_of_environ, request_of_scope
from stator.concurrency.loops import result_of
from stator.concurrency.single_flight import SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.web.access_log import COUNTED, App, Message, Receive, Scope, Send
from stator.web.monitor import BRIEF


class AsyncGuard:
    """Decides in an event loop, which goes on while a thread hashes a password."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._hashings: SingleFlight[object, Decision] = SingleFlight(DaemonThreads().run)

    async def decide(self, request: Request) -> Decision:
        """Returns what becomes of a request."""
        if decision := self._guard.decide(request):
            return decision
        call = self._hashings.submit(object(), partial(self._guard.decide_by_hashing, request), inf)
        return (await result_of(call.future)).unwrap()


def decide(guard: Guard, request: Request) -> Decision:
    """Returns what becomes of a request, in a thread that can wait."""
    return guard.decide(request) or guard.decide_by_hashing(request)


def guarded_asgi(app: App, guard: Guard, proxies: TrustedProxies) -> App:
    """Returns an ASGI application before which a guard stands."""
    waiting = AsyncGuard(guard)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            decision = await waiting.decide(request_of_scope(scope, proxies))
            mark(scope, decision)
            if decision.status:
                await _refuse(scope, send, decision)
                return
            send = _adding(decision.extra, send) if decision.extra else send
        await app(scope, receive, send)

    return guarded


def guarded_wsgi(app: WSGIApplication, guard: Guard, proxies: TrustedProxies) -> WSGIApplication:
    """Returns a WSGI application before which a guard stands."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        decision = decide(guard, request_of_environ(environ, proxies))
        mark(environ, decision)
        if not decision.status:
            return app(environ, _adding_to(decision.extra, start_response) if decision.extra else start_response)
        about_body = ("Content-Type", "application/json"), ("Content-Length", str(len(decision.body)))
        headers = [*decision.headers, *decision.extra, *about_body]
        start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [decision.body]

    return guarded


def doubts(guard: Guard, proxies: TrustedProxies) -> Callable[[Scope], bool]:
    """Returns what returns whether a request has credentials that are not known to be right."""
    return lambda scope: guard.is_doubtful(request_of_scope(scope, proxies))


def mark(source: Any, decision: Decision) -> None:
    """Notes in a request's scope or environ what its answer, and the log of requests, must know of a decision."""
    if decision.is_brief:
        source[BRIEF] = True
    if decision.is_counted:
        source[COUNTED] = True


class GuardedResource:
    """A Falcon resource before which a guard stands, for ASGI and for WSGI, in an application with other routes.

    Args:
        resource: The resource.
        path: The endpoint that it answers, whatever its route.
        guard: The guard.
        proxies: Whose headers are believed.
    """

    def __init__(self, resource: Any, path: str, guard: Guard, proxies: TrustedProxies) -> None:
        self._resource, self._path, self._proxies = resource, path, proxies
        self._guard, self._waiting = guard, AsyncGuard(guard)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answers over WSGI."""
        request = request_of_environ(req.env, self._proxies)
        decision = decide(self._guard, request._replace(path=self._path))
        mark(req.env, decision)
        if not _refuse_by(resp, decision):
            self._resource.on_get(req, resp)
        resp.set_headers(decision.extra)

    async def on_get_async(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answers over ASGI."""
        request = request_of_scope(req.scope, self._proxies)
        decision = await self._waiting.decide(request._replace(path=self._path))
        mark(req.scope, decision)
        if not _refuse_by(resp, decision):
            await self._resource.on_get_async(req, resp)
        resp.set_headers(decision.extra)


def _refuse_by(resp: falcon.Response, decision: Decision) -> bool:
    """Makes a response of Falcon's a refusal, if the decision is one; returns whether it is."""
    if decision.status:
        resp.status, resp.data, resp.content_type = str(decision.status), decision.body, falcon.MEDIA_JSON
        for name, value in decision.headers:
            resp.append_header(name, value)
    return bool(decision.status)


async def _refuse(scope: Scope, send: Send, decision: Decision) -> None:
    length = str(len(decision.body))
    pairs = (*decision.headers, *decision.extra, ("Content-Type", "application/json"), ("Content-Length", length))
    await send({"type": "http.response.start", "status": decision.status, "headers": _raw(pairs)})
    body = b"" if scope["method"] == "HEAD" else decision.body
    await send({"type": "http.response.body", "body": body})


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers]


def _adding(headers: Iterable[tuple[str, str]], send: Send) -> Send:
    """Returns an ASGI `send` that adds headers to a response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_raw(headers)]}
        await send(message)

    return send_with_headers


def _adding_to(headers: Iterable[tuple[str, str]], start_response: StartResponse) -> StartResponse:
    """Returns a WSGI `start_response` that adds headers."""

    def start(status: str, own: list[tuple[str, str]], *error: Any) -> Any:
        return start_response(status, [*own, *headers], *error)

    return start
