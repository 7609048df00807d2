"""Where Stator answers within another application, and in processes that were forked."""

import asyncio
import subprocess
import sys
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import stator
from tests.program import ROOT
from tests.web.asgi import call

# Where an application is mounted, the whole path, and whether that is one of ours.
PATHS = [
    ("", "/monitor", True),
    ("", "/monitor/", False),
    ("", "/", False),
    ("", "/internal/monitor", False),
    ("/internal", "/internal/monitor", True),
    ("/internal", "/internal", False),
    ("/internal", "/internal/", False),
    ("/internal", "/internal/other/monitor", False),
    ("/api/v1", "/api/v1/monitor", True),
    ("/monitor", "/monitor", True),
    ("/monitor", "/monitor/", True),
    ("/api/monitor", "/api/monitor", True),
]


async def theirs(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"theirs"})


def theirs_over_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("418 I'm a teapot", [])
    return [b"theirs"]


def ask_wsgi(app: Any, root: str, rest: str) -> int:
    environ = {"SCRIPT_NAME": root, "PATH_INFO": rest}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    b"".join(app(environ, lambda status, _headers: statuses.append(status)))
    return int(statuses[0].split()[0])


@pytest.mark.parametrize(("root", "path", "is_ours"), PATHS)
def test_over_asgi_the_path_below_the_mount_counts(root: str, path: str, *, is_ours: bool) -> None:
    mounted, wrapped = stator.asgi_app(environ={}), stator.asgi_app(theirs, environ={})
    assert asyncio.run(call(mounted, "GET", path, root_path=root)).status == (200 if is_ours else 404)
    assert asyncio.run(call(wrapped, "GET", path, root_path=root)).status == (200 if is_ours else 418)


@pytest.mark.parametrize(("root", "path", "is_ours"), PATHS)
def test_over_wsgi_the_path_below_the_mount_counts(root: str, path: str, *, is_ours: bool) -> None:
    mounted, wrapped = stator.wsgi_app(environ={}), stator.wsgi_app(theirs_over_wsgi, environ={})
    assert ask_wsgi(mounted, root, path.removeprefix(root)) == (200 if is_ours else 404)
    assert ask_wsgi(wrapped, root, path.removeprefix(root)) == (200 if is_ours else 418)


def test_a_proxy_that_has_removed_the_root_changes_nothing() -> None:
    app = stator.asgi_app(environ={})
    assert asyncio.run(call(app, "GET", "/metrics", root_path="/behind/a/proxy")).status == 200


def test_what_is_no_request_is_the_applications() -> None:
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    async def ask() -> None:
        wrapped = stator.asgi_app(app, environ={})
        await wrapped({"type": "lifespan"}, None, None)
        await wrapped({"type": "websocket", "path": "/metrics"}, None, None)

    asyncio.run(ask())
    assert seen == ["lifespan", "websocket"]


FORKING = """
import os, threading
from wsgiref.util import setup_testing_defaults
import stator

hang = threading.Event()

class Slow:
    def collect(self, now):
        hang.wait(0.2)
        return stator.PointsAt("slow", now, points=[stator.Point("pid", "", os.getpid())])

app = stator.wsgi_app(collectors=[Slow()], checks={"slow": lambda: hang.wait(60)}, check_timeout=0.2, environ={})

def ask(path):
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    statuses = []
    body = b"".join(app(environ, lambda status, headers: statuses.append(status)))
    return statuses[0], body

assert b"pid %d" % os.getpid() in ask("/metrics")[1]
assert ask("/monitor")[0] == "503 Service Unavailable"
child = os.fork()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
else:
    assert b"pid %d" % os.getpid() in ask("/metrics")[1]
    hang = threading.Event()
    hang.set()
    assert ask("/monitor") == ("200 OK", b'{"status":"ok"}'), ask("/monitor")
"""


def test_what_was_asked_before_a_fork_answers_after_it() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
