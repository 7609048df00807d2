"""Stator's endpoints inside another application: mounted below a path, wrapped around it, or as its routes."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from attrs import frozen

from stator.web.access_log import App, Receive, Scope, Send

T = TypeVar("T")
METRICS, MONITOR, READY, LIVE = ENDPOINTS = "/metrics", "/monitor", "/monitor/ready", "/monitor/live"


class PerProcess(Generic[T]):
    """An object with threads and locks, built once in each process that is forked from this one.

    A fork has no threads, and a lock that one of them held stays locked for ever.
    """

    def __init__(self, build: Callable[[], T]) -> None:
        self._build = build
        self._by_pid = {os.getpid(): build()}

    def __call__(self) -> T:
        """Returns the object of the calling process."""
        pid = os.getpid()
        # setdefault: all threads that come first get the same object.
        return self._by_pid.get(pid) or self._by_pid.setdefault(pid, self._build())


@frozen(eq=False)
class ASGIMount:
    """Answers /metrics and /monitor by an ASGI application, and the rest by the wrapped one, or with 404.

    https://asgi.readthedocs.io/en/latest/specs/www.html
    """

    app: PerProcess[App]
    fallback: App | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or passes it on."""
        if scope["type"] == "http":
            root = scope.get("root_path", "").rstrip("/")
            for path in _paths_below(root, scope["path"]):
                if endpoint := match_endpoint(root, path, is_alone=self.fallback is None):
                    await self.app()({**scope, "path": endpoint, "root_path": ""}, receive, send)
                    return
        await (self.fallback or self.app())(scope, receive, send)

    # Python's own TypeError for a call with other arguments, a WSGI server's, begins with this name.
    __call__.__qualname__ = "asgi_app() is for ASGI servers, a WSGI server needs wsgi_app(): ASGIMount.__call__"


@frozen(eq=False)
class WSGIMount:
    """Answers /metrics and /monitor by a WSGI application, and the rest by the wrapped one, or with 404."""

    app: PerProcess[WSGIApplication]
    fallback: WSGIApplication | None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request, or passes it on."""
        root, path = environ.get("SCRIPT_NAME", "").rstrip("/"), environ.get("PATH_INFO", "")
        if endpoint := match_endpoint(root, path, is_alone=self.fallback is None):
            return self.app()({**environ, "PATH_INFO": endpoint, "SCRIPT_NAME": ""}, start_response)
        return (self.fallback or self.app())(environ, start_response)

    __call__.__qualname__ = "wsgi_app() is for WSGI servers, an ASGI server needs asgi_app(): WSGIMount.__call__"


class PerProcessResource:
    """A Falcon resource for ASGI and WSGI, built once in each process."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self._resource = PerProcess(build)

    def on_get(self, req: Any, resp: Any) -> None:
        """Answers over WSGI."""
        self._resource().on_get(req, resp)

    async def on_get_async(self, req: Any, resp: Any) -> None:
        """Answers over ASGI."""
        await self._resource().on_get_async(req, resp)

    on_head, on_head_async = on_get, on_get_async


def match_endpoint(root: str, path: str, *, is_alone: bool) -> str | None:
    """Returns the one of `ENDPOINTS` that a request asks for by a path below its mount, or None.

    A last slash of the path doesn't matter. Only where no application is wrapped, a mount at ``/metrics`` itself is
    that endpoint: a wrapped application has its home page there.
    """
    asked = path.rstrip("/")
    if is_alone and asked not in ENDPOINTS:
        asked = root[root.rfind("/") :] + asked
    return asked if asked in ENDPOINTS else None


def _paths_below(root: str, path: str) -> Iterator[str]:
    """Yields the paths below an ASGI mount that a request's whole path can mean.

    By the specification the whole path begins with the root path. If not, a proxy has removed the root path, or its
    first segments: behind one, ``/internal/metrics`` reaches what ``FastAPI(root_path="/svc")`` mounts at ``/internal``
    with the root path ``/svc/internal``.
    """
    if not f"{path}/".startswith(f"{root}/"):
        yield path
    while not f"{path}/".startswith(f"{root}/"):
        root = root[root.find("/", 1) :] if "/" in root[1:] else ""
    yield path[len(root) :]
