"""Stator's endpoints inside another application: mounted below a path, wrapped around it, or as its routes."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stator.web.access_log import App, Receive, Scope, Send
from stator.web.headers import SECURITY_HEADERS, send_securely, start_securely
from stator.web.status.place import EMBEDDED, STATUS

T = TypeVar("T")
METRICS, MONITOR, READY, LIVE = ENDPOINTS = "/metrics", "/monitor", "/monitor/ready", "/monitor/live"
# Most requests to a wrapped application end otherwise, and need no closer look.
ENDINGS = ("/metrics", "/monitor", "/ready", "/live", "/")


class PerProcess(Generic[T]):
    """Builds an object once in each process: a fork has no threads, and a lock that one held is never released."""

    def __init__(self, build: Callable[[], T]) -> None:
        self._build, self._by_pid = build, {os.getpid(): build()}

    def __call__(self) -> T:
        """Returns the object of the calling process."""
        pid = os.getpid()
        # setdefault: all threads that come first get the same object.
        return self._by_pid.get(pid) or self._by_pid.setdefault(pid, self._build())


def asgi_mount(app: PerProcess[App], fallback: App | None, *, has_page: bool = False) -> App:
    """Returns what answers /metrics and /monitor by `app`, and the rest by the wrapped application, or with 404.

    With `has_page` it answers what belongs to the page too.
    """

    async def mount(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (fallback is None or _may_match(scope["path"], has_page)):
            root = scope.get("root_path", "").rstrip("/")
            for path in _paths_below(root, scope["path"]):
                if endpoint := match_endpoint(root, path, is_alone=fallback is None, has_page=has_page):
                    await app()({**scope, "path": endpoint, "root_path": ""}, receive, send_securely(send))
                    return
        if fallback is not None:
            await fallback(scope, receive, send)
        else:
            await app()(scope, receive, send_securely(send))

    # Python's own TypeError for a call with other arguments, a WSGI server's, begins with this name.
    mount.__qualname__ = "asgi_app() is for ASGI servers, a WSGI server needs wsgi_app(): mount"
    return mount


def wsgi_mount(
    app: PerProcess[WSGIApplication], fallback: WSGIApplication | None, *, has_page: bool = False
) -> WSGIApplication:
    """Returns the same for WSGI."""

    def mount(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if fallback and not _may_match(path, has_page):
            return fallback(environ, start_response)
        root = environ.get("SCRIPT_NAME", "").rstrip("/")
        if endpoint := match_endpoint(root, path, is_alone=fallback is None, has_page=has_page):
            environ = {**environ, "PATH_INFO": endpoint, "SCRIPT_NAME": ""}
        elif fallback:
            return fallback(environ, start_response)
        return app()(environ, start_securely(start_response))

    mount.__qualname__ = "wsgi_app() is for WSGI servers, an ASGI server needs asgi_app(): mount"
    return mount


class PerProcessResource(PerProcess[Any]):
    """A Falcon resource for ASGI and WSGI, built once in each process."""

    def on_get(self, req: Any, resp: Any, **parts: str) -> None:
        """Answers over WSGI."""
        resp.set_headers(SECURITY_HEADERS)
        self().on_get(req, resp, **parts)

    async def on_get_async(self, req: Any, resp: Any, **parts: str) -> None:
        """Answers over ASGI."""
        resp.set_headers(SECURITY_HEADERS)
        await self().on_get_async(req, resp, **parts)

    on_head, on_head_async = on_get, on_get_async


def match_endpoint(root: str, path: str, *, is_alone: bool, has_page: bool = False) -> str | None:
    """Returns the one of `ENDPOINTS`, or the path of the page, that a request asks for below its mount, or None."""
    # Without a slash at the end, since the page's links are relative to it.
    if has_page and (path == EMBEDDED.page or path.startswith(f"{EMBEDDED.assets}/")):
        return path
    endpoints = (*ENDPOINTS, STATUS) if has_page else ENDPOINTS
    # A mount at /metrics itself is that endpoint, but a wrapped application has its home page there.
    asked = path.rstrip("/")
    if is_alone and asked not in endpoints:
        asked = root[root.rfind("/") :] + asked
    return asked if asked in endpoints else None


def _may_match(path: str, has_page: bool) -> bool:
    return path.endswith(ENDINGS) or (has_page and STATUS in path)


def _paths_below(root: str, path: str) -> Iterator[str]:
    """Yields the paths below an ASGI mount that a request's whole path can mean."""
    # It begins with the root (https://asgi.readthedocs.io/en/latest/specs/www.html), unless a proxy removes segments.
    if not f"{path}/".startswith(f"{root}/"):
        yield path
    # A path may have no slash at its beginning: `OPTIONS *`, or a target that is a whole URI.
    while root and not f"{path}/".startswith(f"{root}/"):
        root = root[root.find("/", 1) :] if "/" in root[1:] else ""
    yield path[len(root) :]
