"""Users, tokens and networks in front of the paths that Stator answers in applications."""

from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from stator import ConfigError, Stator
from tests.credentials import HASH, OTHER_TOKEN, TOKEN, basic, bearer, settings, write_private
from tests.embedding.applications import Command, gunicorn, hypercorn, uvicorn, wsgiref
from tests.embedding.conftest import ServeApp, Served
from tests.embedding.registering import Shops
from tests.program import Answer, eventually

ASGI = """
import stator
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def home():
    return "home"


app = stator.asgi_app(app, checks={"db": lambda: 1 / 0})
"""
ASGI_MOUNTED = """
import stator
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

home = Route("/", lambda request: PlainTextResponse("home"))
app = Starlette(routes=[home, Mount("/internal", stator.asgi_app(checks={"db": lambda: 1 / 0}))])
"""
WSGI = """
import stator
from flask import Flask

app = Flask(__name__)


@app.get("/")
def home():
    return "home"


app.wsgi_app = stator.wsgi_app(app.wsgi_app, checks={"db": lambda: 1 / 0})
"""
ROUTES = """
import falcon, falcon.asgi, stator


class Home:
    def on_get(self, req, resp):
        resp.text = "home"

    async def on_get_async(self, req, resp):
        resp.text = "home"


app = falcon{kind}.App()
app.add_route("/", Home(){suffix})
stator.add_routes(app, prefix="/internal", checks={{"db": lambda: 1 / 0}})
"""
EMBEDDED: dict[str, tuple[str, Command, str]] = {
    "asgi": (ASGI, uvicorn("--workers=4"), ""),
    "asgi, mounted": (ASGI_MOUNTED, uvicorn(), "/internal"),
    "asgi, trio": (ASGI_MOUNTED, hypercorn("--worker-class=trio"), "/internal"),
    "wsgi, wsgiref": (WSGI, wsgiref, ""),
    "asgi, add_routes": (ROUTES.format(kind=".asgi", suffix=", suffix='async'"), uvicorn(), "/internal"),
    "wsgi": (WSGI, gunicorn("-w=3", "-k=gthread", "--threads=4"), ""),
    "wsgi, preloaded": (WSGI, gunicorn("-w=2", "--preload"), ""),
    "wsgi, add_routes": (ROUTES.format(kind="", suffix=""), gunicorn("-w=2"), "/internal"),
}


def ask(served: Served, path: str, headers: Mapping[str, str], address: str, method: str = "GET") -> Answer:
    port = served._port
    with closing(HTTPConnection("127.0.0.1", port, timeout=20, source_address=(address, 0))) as connection:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())


@pytest.mark.parametrize("name", EMBEDDED)
def test_our_paths_need_credentials_and_the_applications_do_not(serve_app: ServeApp, tmp_path: Path, name: str) -> None:
    code, command, where = EMBEDDED[name]
    served = serve_app(code, command, where=where, env=settings(tmp_path))
    for _ in range(8):  # several workers
        assert ask(served, "/", {}, "127.0.0.1").body.strip(b'"') == b"home"
        answer = ask(served, f"{where}/metrics", {}, "127.0.0.1")
        assert (answer.status, answer.body) == (401, b'{"error":"unauthorized"}')
        assert (
            "Basic realm" in answer.headers[next(each for each in answer.headers if each.lower() == "www-authenticate")]
        )
        for headers in (basic(), bearer()):
            assert b"pyrt_info" in ask(served, f"{where}/metrics", headers, "127.0.0.1").body
            answer = ask(served, f"{where}/monitor", headers, "127.0.0.1")
            assert (answer.status, b"ZeroDivisionError" in answer.body) == (503, True)
        assert ask(served, f"{where}/monitor", {}, "127.0.0.1").body == b'{"status":"failing"}'
        assert ask(served, f"{where}/monitor/live", {}, "127.0.0.1").status == 200
        head = ask(served, f"{where}/metrics", {}, "127.0.0.1", "HEAD")
        assert (head.status, head.body) == (401, b"")
    # Each worker counts for itself: this connection stays with one.
    with closing(HTTPConnection("127.0.0.1", served._port, timeout=20, source_address=("127.0.0.2", 0))) as connection:
        statuses = []
        for n in range(5 * 5 + 5):
            connection.request("GET", f"{where}/metrics", headers=basic("prom", f"guess {n}"))
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
    assert set(statuses) == {401, 429}
    assert statuses[:5] == [401] * 5
    assert ask(served, f"{where}/metrics", basic(), "127.0.0.1").status == 200
    assert "guess" not in served.output + served.errors
    assert 1 <= served.errors.count("wrong credentials") <= 4


@pytest.mark.parametrize("name", ["asgi", "wsgi", "asgi, add_routes", "wsgi, add_routes"])
def test_the_allow_list_and_the_endpoints_hold_for_our_paths_alone(
    serve_app: ServeApp, tmp_path: Path, name: str
) -> None:
    code, command, where = EMBEDDED[name]
    env = {"STTR_SERVER_ALLOW": "127.0.0.1", "STTR_SERVER_ENDPOINTS": "monitor"}
    served = serve_app(code, command, where=where, env=env)
    for path in ("/metrics", "/monitor"):
        assert ask(served, f"{where}{path}", {}, "127.0.0.2").status == 403
    assert ask(served, "/", {}, "127.0.0.2").status == 200
    assert ask(served, f"{where}/metrics", {}, "127.0.0.1").status == 404
    assert ask(served, f"{where}/monitor", {}, "127.0.0.1").status == 503
    assert "refused an address that STTR_SERVER_ALLOW does not name" in served.errors


def test_files_are_read_again_by_each_worker(serve_app: ServeApp, tmp_path: Path) -> None:
    code, command, where = EMBEDDED["asgi"]
    served = serve_app(code, command, where=where, env=settings(tmp_path))
    assert served.get("/metrics", bearer(OTHER_TOKEN)).status == 401
    write_private(tmp_path / "tokens", f"{TOKEN}\n{OTHER_TOKEN}\n")
    # From an address of its own each time: what fails too often has to wait.
    addresses = iter(range(1, 255))

    def is_known() -> bool:
        address = f"127.0.9.{next(addresses)}"
        return {ask(served, "/metrics", bearer(OTHER_TOKEN), address).status for _ in range(20)} == {200}

    eventually(is_known)


@pytest.mark.parametrize(("name", "log"), [("asgi", "line"), ("wsgi", "line")])
def test_the_log_of_an_applications_requests_names_the_client_behind_a_trusted_proxy(
    serve_app: ServeApp, name: str, log: str
) -> None:
    code, command, where = EMBEDDED[name]
    logged = f"import logging\n\nlogging.basicConfig(level='INFO', format='%(message)s %(remote_ip)s')\n{code}"
    logged = logged.replace("format='%(message)s %(remote_ip)s'", "format='%(message)s'")
    command = uvicorn("--no-proxy-headers") if name == "asgi" else command
    served = serve_app(logged, command, where=where, env={"STTR_SERVER_TRUSTEDPROXIES": "127.0.0.2"})
    ask(served, "/", {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}, "127.0.0.2")
    ask(served, "/", {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}, "127.0.0.3")
    eventually(lambda: "198.51.100.7" in served.errors and "127.0.0.3" in served.errors)
    assert "192.0.2.1" not in served.errors


@pytest.mark.parametrize("check", ["http", "ttl"])
def test_it_is_registered_where_even_the_monitor_needs_credentials(shop: Shops, tmp_path: Path, check: str) -> None:
    env = {**settings(tmp_path), "STTR_SERVER_OPENPATHS": "", "STTR_CONSUL_CHECK": check}
    env["STTR_ROSTER_SERVICE_IPADDRESS"] = "127.0.0.1"
    if check == "http":
        env["STTR_CONSUL_CHECKHEADERS"] = f"Authorization,Bearer {TOKEN}"
    served = shop.start(REGISTERED, uvicorn("--workers=4"), env=env, where="")
    eventually(lambda: [health.status for health in shop.consul.health("shop")] == ["passing"], within=30)
    assert served.get("/monitor").status == 401
    assert "wrong credentials" not in served.errors


REGISTERED = """
from contextlib import asynccontextmanager

import stator
from fastapi import FastAPI

observability = stator.Stator(service="shop")


@asynccontextmanager
async def lifespan(app):
    with observability.registered(port=8000, monitor="/monitor"):
        yield


app = observability.asgi_app(FastAPI(lifespan=lifespan))
"""


WEB_CONFIG = f"""
tls_server_config: {{cert_file: none.pem, key_file: none.key}}
basic_auth_users: {{prom: {HASH}}}
http_server_config:
  headers: {{Content-Security-Policy: default-src *, X-Frame-Options: deny}}
"""


@pytest.mark.parametrize("name", ["asgi", "wsgi, wsgiref", "asgi, add_routes", "wsgi, add_routes"])
def test_a_web_configuration_file_holds_for_our_paths_but_for_its_tls(
    serve_app: ServeApp, tmp_path: Path, name: str
) -> None:
    code, command, where = EMBEDDED[name]
    file = write_private(tmp_path / "web.yml", WEB_CONFIG)
    served = serve_app(code, command, where=where, env={"STTR_SERVER_WEBCONFIG": str(file)})
    for headers, status in (({}, 401), (basic(), 200)):
        answer = ask(served, f"{where}/metrics", headers, "127.0.0.1")
        found = {header.lower(): value for header, value in answer.headers.items()}
        names = ("content-security-policy", "x-frame-options", "x-content-type-options")
        assert (answer.status, *map(found.get, names)) == (status, "default-src *", "deny", "nosniff")
    home = {header.lower() for header in ask(served, "/", {}, "127.0.0.1").headers}
    assert not home & {"content-security-policy", "x-frame-options"}
    unused = f"tls_server_config in {file} is not used: TLS is the affair of the application's server"
    assert 1 <= served.errors.count(unused) <= 5  # once in each process that imports the application
    write_private(file, "rate_limit: {interval: 1h, burst: 0}")

    def answers() -> set[tuple[int, bytes]]:
        """From as many workers as there are, each of which looks at the file when it is asked."""
        paths = [f"{where}/metrics", f"{where}/monitor"] * 20
        return {(answer.status, answer.body) for answer in (ask(served, path, {}, "127.0.0.1") for path in paths)}

    eventually(lambda: answers() == {(429, b'{"error":"too many requests"}')})
    assert ask(served, "/", {}, "127.0.0.1").status == 200


def test_a_web_configuration_file_that_is_wrong_is_refused(tmp_path: Path) -> None:
    file = write_private(tmp_path / "web.yml", "basic_auth_users: {prom: secret}")
    for more, expected in (
        ({}, "basic_auth_users.prom to be a hash of bcrypt"),
        ({"STTR_SERVER_USERSFILE": settings(tmp_path)["STTR_SERVER_USERSFILE"]}, "no STTR_SERVER_USERSFILE beside it"),
    ):
        with pytest.raises(ConfigError, match=expected):
            Stator(service="shop", environ={"STTR_SERVER_WEBCONFIG": str(file), **more})
