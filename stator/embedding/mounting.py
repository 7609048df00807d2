"""Our applications within others: mounted under a path of theirs, or wrapped around them, in as many processes."""

import os
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stator.web.access_log import App, Receive, Scope, Send

T = TypeVar("T")
METRICS, MONITOR = "/metrics", "/monitor"

WsgiApp: TypeAlias = WSGIApplication


class PerProcess(Generic[T]):
    """Something that has threads and locks: made anew where this process was forked from the one that made it.

    In a fork, threads are gone, and a lock that one of them held is held for ever.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made = {os.getpid(): make()}

    def __call__(self) -> T:
        """What is this process's."""
        pid = os.getpid()
        # Not two of them, whoever asks first at the same time.
        return self._made.get(pid) or self._made.setdefault(pid, self._make())


class ASGIMount:
    """Answers /metrics and /monitor over ASGI, also under paths at which it's mounted, and leaves the rest to another.

    https://asgi.readthedocs.io/en/latest/specs/www.html

    Args:
        ours: What answers.
        around: The application that has all other requests; None to answer them with 404.
    """

    def __init__(self, ours: PerProcess[App], around: App | None = None) -> None:
        self._ours, self._around = ours, around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or passes it on."""
        path = _ours(scope.get("root_path", ""), scope["path"]) if scope["type"] == "http" else None
        if path is not None:
            await self._ours()({**scope, "path": path, "root_path": ""}, receive, send)
        else:
            await (self._around or self._ours())(scope, receive, send)


class WsgiMounted:
    """The same over WSGI.

    https://peps.python.org/pep-3333/
    """

    def __init__(self, ours: PerProcess[WsgiApp], around: WsgiApp | None = None) -> None:
        self._ours, self._around = ours, around

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request, or passes it on."""
        root, rest = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
        path = _ours(root, root + rest)
        if path is not None:
            return self._ours()({**environ, "PATH_INFO": path, "SCRIPT_NAME": ""}, start_response)
        return (self._around or self._ours())(environ, start_response)


class Resource:
    """A Falcon resource that is each process's own."""

    def __init__(self, resource: PerProcess[Any]) -> None:
        self._resource = resource

    async def on_get(self, req: Any, resp: Any) -> None:
        """Answers."""
        await self._resource().on_get(req, resp)

    on_head = on_get


class BlockingResource:
    """The same for Falcon's WSGI applications."""

    def __init__(self, resource: PerProcess[Any]) -> None:
        self._resource = resource

    def on_get(self, req: Any, resp: Any) -> None:
        """Answers."""
        self._resource().on_get(req, resp)

    on_head = on_get


def _ours(root: str, path: str) -> str | None:
    """Which of our paths is asked for, or None.

    Args:
        root: Where the application is mounted.
        path: The whole path; or the one below `root`, as some servers have it.
    """
    below = path[len(root) :] if root and path.startswith(root) else path
    # Mounted at the very path of one of ours: nothing, or a slash, is left of it.
    asked = below if below.strip("/") else root[root.rfind("/") :] if root else below
    return asked if asked in (METRICS, MONITOR) else None
