"""Headers that all answers have, in the program and inside an application."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any
from wsgiref.util import setup_testing_defaults

import falcon
import falcon.asgi
import falcon.testing
import pytest

import stator
from tests.program import Program
from tests.web.asgi import call

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
PATHS = ["/metrics", "/monitor", "/monitor/live", "/status", "/status/page", "/status/assets/page.js"]


def check(headers: Mapping[str, str]) -> None:
    """The headers are those of every answer, and each of them is there once."""
    lower = {name.lower(): value for name, value in headers.items()}
    assert lower["x-content-type-options"] == "nosniff"
    assert lower["referrer-policy"] == "no-referrer"
    policy = dict(part.strip().split(" ", 1) for part in lower["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in lower["content-security-policy"]
    assert not re.search(r"\d", lower.get("server", ""))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program({"STTR_COLLECTORS": "wave"}, tmp_path_factory.mktemp("stator")) as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/monitor", "/config", "/assets/page.js", "/none", "//"])
def test_each_answer_of_the_program_has_them(program: Program, method: str, path: str) -> None:
    check(program.request(method, path).headers)


def test_the_policy_lets_a_page_load_what_is_ours_alone(program: Program) -> None:
    policy = program.get("/").headers["content-security-policy"]
    assert dict(part.strip().split(" ", 1) for part in policy.split(";")).items() >= POLICY.items()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nbroken\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
    ],
    ids=["malformed", "too long", "too large"],
)
def test_so_has_what_refuses_a_request(program: Program, request_: bytes, status: int) -> None:
    with program.dial() as connection:
        connection.sendall(request_)
        head, _, _ = connection.makefile("rb").read().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first.split()[1] == str(status)
    check(dict(line.split(": ", 1) for line in lines))


async def shop(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-shop", b"1")]})
    await send({"type": "http.response.body", "body": b"shop"})


def shop_over_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-Shop", "1")])
    return [b"shop"]


def ask_wsgi(app: Any, path: str) -> dict[str, str]:
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    found: dict[str, str] = {}
    b"".join(app(environ, lambda _status, headers, _=None: found.update(headers)))
    return found


@pytest.mark.parametrize("path", [*PATHS, "/none"])
def test_inside_an_application_our_answers_have_them(path: str) -> None:
    check(asyncio.run(call(stator.asgi_app(environ={}, page=True), "GET", path)).headers)
    check(ask_wsgi(stator.wsgi_app(environ={}, page=True), path))


def test_a_wrapped_applications_own_answers_stay_as_they_are() -> None:
    assert asyncio.run(call(stator.asgi_app(shop, environ={}, page=True), "GET", "/")).headers.keys() == {
        "x-shop",
        "x-request-id",
    }
    assert {*ask_wsgi(stator.wsgi_app(shop_over_wsgi, environ={}, page=True), "/")} <= {"X-Shop", "X-Request-ID"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("app", [falcon.App, falcon.asgi.App])
def test_as_routes_of_a_falcon_application_ours_alone_have_them(app: Any, path: str) -> None:
    host = app()
    stator.add_routes(host, prefix="/internal", environ={}, page=True)
    client = falcon.testing.TestClient(host)
    answer = client.simulate_get(f"/internal{path}")
    assert answer.status_code == 200
    check(answer.headers)
    assert "content-security-policy" not in client.simulate_get("/none").headers


def test_a_program_without_a_server_names_none_with_a_version() -> None:
    with stator.Stator(environ={}, page=True).serve(0, host="127.0.0.1") as serving:
        from http.client import HTTPConnection

        connection = HTTPConnection("127.0.0.1", serving.port, timeout=10)
        connection.request("GET", "/status/page")
        headers = dict(connection.getresponse().headers)
        connection.close()
    check(headers)
    assert headers["Server"] == "stator"
