"""The page inside an application: where it was asked for, below its mount, the same from every worker."""

import asyncio
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import falcon
import falcon.asgi
import falcon.testing
import pytest
from selenium.webdriver.common.by import By

import stator
from tests.embedding.applications import gunicorn, uvicorn
from tests.embedding.conftest import ServeApp, Served
from tests.integration.programs import Consul, program_path
from tests.program import eventually
from tests.web.asgi import call
from tests.web.status.browser import browser, logged

PAGE, STATUS, SCRIPT = "/status/page", "/status", "/status/assets/page.js"
# An application of its own at /, with the page in it or not, below a path or around it.
WRAPPED = """
import stator
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def home():
    return "mine"


@app.get("/status/mine")
def status():
    return "mine"


observability = stator.Stator(service="shop", version="1.4", collectors=["runtime", "wave"], page=True)
app = observability.asgi_app(app)
"""
MOUNTED = """
import stator
from fastapi import FastAPI

app = FastAPI()
app.mount("/internal", stator.asgi_app(service="shop", collectors=["runtime", "wave"], page=True))
"""
FLASK = """
import stator
from flask import Flask

app = Flask(__name__)
app.wsgi_app = stator.wsgi_app(app.wsgi_app, service="shop", collectors=["runtime", "wave"], page=True)
"""


async def shop(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b"shop"})


def shop_over_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("418 I'm a teapot", [])
    return [b"shop"]


def ask_asgi(path: str, root: str, *, wrapped: bool, page: bool) -> int:
    app = stator.asgi_app(shop if wrapped else None, environ={}, page=page)
    return asyncio.run(call(app, "GET", root + path, root_path=root)).status


def ask_wsgi(path: str, root: str, *, wrapped: bool, page: bool) -> int:
    environ = {"SCRIPT_NAME": root, "PATH_INFO": path}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    app: Any = stator.wsgi_app(shop_over_wsgi if wrapped else None, environ={}, page=page)
    b"".join(app(environ, lambda status, _headers, _=None: statuses.append(status)))
    return int(statuses[0].split()[0])


Ask = Callable[..., int]
BOTH = pytest.mark.parametrize("ask", [ask_asgi, ask_wsgi], ids=["asgi", "wsgi"])
EITHER = pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "mounted"])


@BOTH
@EITHER
@pytest.mark.parametrize("root", ["", "/internal", "/a/b"])
@pytest.mark.parametrize("path", [PAGE, STATUS, SCRIPT])
def test_it_is_below_the_mount_where_it_was_asked_for_and_nowhere_else(
    ask: Ask, wrapped: bool, root: str, path: str
) -> None:
    assert ask(path, root, wrapped=wrapped, page=True) == 200
    assert ask(path, root, wrapped=wrapped, page=False) == (418 if wrapped else 404)


@BOTH
@pytest.mark.parametrize("path", ["/", "/assets/page.js", "/status/", "/status/page/", "/status/mine", "/statuses"])
def test_other_paths_stay_the_applications(ask: Ask, path: str) -> None:
    assert ask(path, "", wrapped=True, page=True) == (200 if path == "/status/" else 418)


@pytest.mark.parametrize("app", [falcon.App, falcon.asgi.App])
def test_as_routes_of_a_falcon_application_it_is_there_if_asked_for(app: Any) -> None:
    for page in (True, False):
        host = app()
        stator.add_routes(host, prefix="/internal", environ={}, page=page)
        client = falcon.testing.TestClient(host)
        statuses = {client.simulate_get(f"/internal{path}").status_code for path in (PAGE, STATUS, SCRIPT)}
        assert statuses == ({200} if page else {404})


def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(stator.ConfigError, match="page='yes': expected True or False"):
        stator.Stator(environ={}, page="yes")  # type: ignore[arg-type]


SERVED = {
    "uvicorn": (WRAPPED, uvicorn("--workers=3"), ""),
    "gunicorn, mounted": (MOUNTED, gunicorn("--workers=3", "--worker-class=uvicorn_worker.UvicornWorker"), "/internal"),
    "gunicorn, preloaded": (FLASK, gunicorn("--workers=3", "--preload"), ""),
}


@pytest.fixture(params=SERVED)
def served(request: pytest.FixtureRequest, serve_app: ServeApp) -> Iterator[Served]:
    code, command, where = SERVED[request.param]
    with serve_app(code, command, where=where) as running:
        yield running


def status_of(served: Served) -> Any:
    answer = served.get(f"{served.where}/status")
    assert answer.status == 200
    return json.loads(answer.body)


def test_every_worker_gives_the_same_facts(served: Served) -> None:
    eventually(lambda: [each["role"] for each in status_of(served)["processes"]].count("worker") == 3, within=20)
    served.metrics()
    answers = [status_of(served) for _ in range(20)]
    for name in ("service", "registration", "collectors"):
        assert all(answer[name] == answers[0][name] for answer in answers), name
    by_name = {each["name"]: each for each in answers[0]["collectors"]}
    assert by_name["wave"]["success"]
    assert by_name["wave"]["points"] == 3
    assert answers[0]["service"]["name"] == "shop"
    assert answers[0]["registration"]["state"] == "nowhere"
    pids = [{each["pid"] for each in answer["processes"]} for answer in answers]
    assert all(each == pids[0] for each in pids)
    assert served.pid in pids[0]


def test_in_a_browser_it_draws_the_wave_and_asks_nobody_else(served: Served, tmp_path: Path) -> None:
    program_path("chromium")
    with browser(tmp_path) as chrome:
        chrome.get(f"http://127.0.0.1:{served.port}{served.where}/status/page")
        drawn = "return [...document.querySelectorAll('figure')].map((each) => [each.plot.name, each.plot.data])"
        plots = eventually(
            lambda: (found := dict(chrome.execute_script(drawn))) and len(found["wave_sine"][0]) >= 3 and found,
            within=30,
        )
        assert plots
        times, simple, *_ = plots["wave_sine"]
        assert simple[-1] == pytest.approx(math.sin(2 * math.pi * math.fmod(times[-1], 60) / 60), abs=1e-2)
        for link in chrome.find_elements(By.CSS_SELECTOR, "nav a"):
            path = (link.get_attribute("href") or "").partition(str(served.port))[2]
            assert served.get(path).status == 200, path
        assert logged(chrome, "browser") == []


def test_the_registration_is_shown_by_the_worker_that_made_it(serve_app: ServeApp, tmp_path: Path) -> None:
    code = """
import os
from contextlib import asynccontextmanager

import stator
from fastapi import FastAPI

observability = stator.Stator(service="shop", collectors=["runtime"], page=True)


@asynccontextmanager
async def lifespan(app):
    with observability.registered(port=int(os.environ["STTR_SERVER_PORT"])):
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/", observability.asgi_app())
"""
    with Consul(tmp_path) as consul, serve_app(code, uvicorn(), env={"STTR_CLIENT_BASEURI": consul.url}) as served:
        eventually(lambda: status_of(served)["registration"]["state"] == "registered", within=20)
        ((_, registered),) = consul.services().items()
        registration = status_of(served)["registration"]
        assert registration["confirmed"] > 0
        assert (registration["id"], registration["port"]) == (registered["ID"], served.port)
