"""Where Stator answers within another application, and in processes that were forked."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import falcon
import falcon.asgi
import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import stator
from tests.program import ROOT
from tests.web.asgi import call

METRICS, MONITOR = b"pyrt_info", b'{"status":"ok"}'
# Where an application is mounted, the path below that, and a part of the answer if Stator gives it.
PATHS = [
    ("", "/monitor", MONITOR),
    ("", "/monitor/", MONITOR),
    ("", "/monitor/live", MONITOR),
    ("", "/monitor/ready/", MONITOR),
    ("", "/metrics", METRICS),
    ("", "/metrics/", METRICS),
    ("", "/", None),
    ("", "/live", None),
    ("", "/monitor/other", None),
    ("", "/monitors", None),
    ("", "/internal/monitor", None),
    ("/internal", "/monitor", MONITOR),
    ("/internal", "/monitor/live", MONITOR),
    ("/internal", "/metrics/", METRICS),
    ("/internal", "", None),
    ("/internal", "/", None),
    ("/internal", "/other/monitor", None),
    ("/api/v1", "/monitor", MONITOR),
    ("/monitor", "/metrics", METRICS),
    ("/monitor", "/monitor", MONITOR),
    ("/apps/monitor", "/monitor/", MONITOR),
]
# Mounts at an endpoint's own path.
BARE = [
    ("/monitor", ""),
    ("/monitor", "/"),
    ("/monitor", "/live"),
    ("/apps/monitor", ""),
    ("/apps/monitor/", "/"),
    ("/apps/monitor", "/ready/"),
]


async def shop(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"shop"})


def shop_over_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("418 I'm a teapot", [])
    return [b"shop"]


def ask_asgi(app: Any, path: str, root: str = "") -> tuple[int, bytes]:
    reply = asyncio.run(call(app, "GET", path, root_path=root))
    return reply.status, reply.body


def ask_wsgi(app: Any, path: str, root: str = "") -> tuple[int, bytes]:
    environ = {"SCRIPT_NAME": root, "PATH_INFO": path}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = b"".join(app(environ, lambda status, _headers, _=None: statuses.append(status)))
    return int(statuses[0].split()[0]), body


def asgi_answers(root: str, path: str) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """Answers of an application of our own, and of a wrapped one."""
    path = root.rstrip("/") + path
    return ask_asgi(stator.asgi_app(environ={}), path, root), ask_asgi(stator.asgi_app(shop, environ={}), path, root)


def wsgi_answers(root: str, path: str) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    mounted, wrapped = stator.wsgi_app(environ={}), stator.wsgi_app(shop_over_wsgi, environ={})
    return ask_wsgi(mounted, path, root), ask_wsgi(wrapped, path, root)


Answers = Callable[[str, str], tuple[tuple[int, bytes], tuple[int, bytes]]]
BOTH = pytest.mark.parametrize("answers", [asgi_answers, wsgi_answers], ids=["asgi", "wsgi"])


@BOTH
@pytest.mark.parametrize(("root", "path", "part"), PATHS)
def test_the_path_below_the_mount_counts(answers: Answers, root: str, path: str, part: bytes | None) -> None:
    (mounted, mounted_body), (wrapped, wrapped_body) = answers(root, path)
    if part:
        assert (mounted, wrapped) == (200, 200)
        assert part in mounted_body
        assert part in wrapped_body
    else:
        assert (mounted, wrapped, wrapped_body) == (404, 418, b"shop")


@pytest.mark.parametrize("root", ["", "/shop", "/shop/"])
@pytest.mark.parametrize("path", ["*", "x", "h/metrics", "h/monitor", "http://h/metrics", ""])
def test_a_path_without_a_slash_at_its_beginning_is_answered_too(root: str, path: str) -> None:
    assert ask_asgi(stator.asgi_app(shop, environ={}), path, root)[0] in (200, 418)
    assert ask_asgi(stator.asgi_app(environ={}), path, root)[0] in (200, 404)


@BOTH
@pytest.mark.parametrize(("root", "path"), BARE)
def test_a_mount_at_an_endpoints_path_is_the_endpoint_but_a_wrapped_applications_home_page_its_own(
    answers: Answers, root: str, path: str
) -> None:
    assert answers(root, path) == ((200, MONITOR), (418, b"shop"))


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/behind/a/proxy", "/metrics"),
        ("/svc/internal", "/internal/metrics"),
        ("/a/svc/internal", "/svc/internal/metrics"),
        ("/apps/metrics", "/metrics"),
    ],
)
def test_a_proxy_that_has_removed_the_root_path_or_its_first_part_changes_nothing(root: str, path: str) -> None:
    for app in (stator.asgi_app(environ={}), stator.asgi_app(shop, environ={})):
        status, body = ask_asgi(app, path, root)
        assert status == 200
        assert METRICS in body


def mounted_in_fastapi(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    app.mount("/internal", stator.asgi_app(environ={}))
    return app


# Deprecated by FastAPI, but there.
@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("path", ["/internal/metrics", "/internal/metrics/"])
@pytest.mark.parametrize("proxy", ["strips", "keeps"])
def test_fastapi_with_a_root_path_answers_behind_a_proxy_that_strips_it_or_keeps_it(proxy: str, path: str) -> None:
    app = mounted_in_fastapi(root_path="/svc")
    assert ask_asgi(app, path if proxy == "strips" else f"/svc{path}")[0] == 200


def test_an_application_of_fastapi_within_another_answers() -> None:
    app = FastAPI()
    app.mount("/shop", mounted_in_fastapi())
    assert ask_asgi(app, "/shop/internal/metrics")[0] == 200
    assert ask_asgi(app, "/shop/internal/nothing")[0] == 404


def test_starlettes_middleware_wraps() -> None:
    app = Starlette(middleware=[Middleware(stator.asgi_app, environ={})])
    assert METRICS in ask_asgi(app, "/metrics")[1]
    assert ask_asgi(app, "/")[0] == 404


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/metrics", "/metrics/monitor"])
def test_starlette_can_mount_it_at_the_path_of_an_endpoint(path: str) -> None:
    app = Starlette(routes=[Mount("/metrics", stator.asgi_app(environ={}))])
    assert ask_asgi(app, path)[0] == 200


def test_werkzeugs_dispatcher_mounts_it_in_flask() -> None:
    app = Flask(__name__)
    mounted = DispatcherMiddleware(app.wsgi_app, {"/internal": stator.wsgi_app(environ={})})
    assert METRICS in ask_wsgi(mounted, "/internal/metrics/")[1]
    assert ask_wsgi(mounted, "/metrics")[0] == 404


@pytest.mark.parametrize("strips", [True, False])
@pytest.mark.parametrize("make", [falcon.App, falcon.asgi.App])
def test_falcons_routes_answer_with_a_last_slash_too(make: Callable[[], Any], *, strips: bool) -> None:
    app = make()
    app.req_options.strip_url_path_trailing_slash = strips
    stator.add_routes(app, prefix="/internal", environ={})
    ask = ask_asgi if isinstance(app, falcon.asgi.App) else ask_wsgi
    assert METRICS in ask(app, "/internal/metrics")[1]
    assert METRICS in ask(app, "/internal/metrics/")[1]
    assert [ask(app, f"/internal/monitor{end}")[1] for end in ("", "/ready", "/live/")] == [MONITOR] * 3


def test_a_server_of_the_other_kind_reads_in_one_line_what_to_use() -> None:
    asgi, wsgi = stator.asgi_app(environ={}), stator.wsgi_app(environ={})
    with pytest.raises(TypeError, match=r"^asgi_app\(\) is for ASGI servers, a WSGI server needs wsgi_app\(\).*$"):
        ask_wsgi(asgi, "/metrics")
    with pytest.raises(TypeError, match=r"^wsgi_app\(\) is for WSGI servers, an ASGI server needs asgi_app\(\).*$"):
        ask_asgi(wsgi, "/metrics")


def test_lifespan_and_websockets_go_to_the_wrapped_application() -> None:
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
    hang = threading.Event()
    hang.set()
    assert b"pid %d" % os.getpid() in ask("/metrics")[1]
    assert ask("/monitor") == ("200 OK", b'{"status":"ok","checks":{"slow":"ok"}}'), ask("/monitor")
"""


def test_an_application_that_answered_before_a_fork_answers_after_it() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
