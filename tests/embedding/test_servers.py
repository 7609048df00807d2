"""What servers add to a path, and servers that call applications of the other kind."""

import pytest

from tests.embedding.applications import FASTAPI, WRAPPED, Command, gunicorn, uvicorn
from tests.embedding.conftest import ServeApp

FASTAPI_WRAPPED = f"""{WRAPPED}
@app.get("/")
def home():
    return "home"
"""
FLASK_WRAPPED = """
import stator
from flask import Flask

app = Flask(__name__)
app.wsgi_app = stator.wsgi_app(app.wsgi_app)


@app.get("/")
def home():
    return "home"
"""
BEHIND_A_PROXY = FASTAPI.replace("FastAPI()", "FastAPI(root_path='/svc')")


@pytest.mark.parametrize("root", ["/monitor", "/apps/metrics"])
def test_the_home_page_of_a_wrapped_wsgi_application_is_its_own_wherever_it_is_served(
    serve_app: ServeApp, root: str
) -> None:
    served = serve_app(FLASK_WRAPPED, gunicorn("-k=gthread"), where=root, env={"SCRIPT_NAME": root})
    assert served.get(f"{root}/").body == b"home"
    assert served.get(root).body != served.monitor().body
    assert "pyrt_info" in served.metrics()
    assert served.get(f"{root}/monitor/").body == served.monitor().body


@pytest.mark.parametrize("root", ["/monitor", "/apps/metrics"])
def test_the_home_page_of_a_wrapped_asgi_application_is_its_own_wherever_it_is_served(
    serve_app: ServeApp, root: str
) -> None:
    # Uvicorn puts the root path before what a proxy has left of the path; gunicorn takes the path as it comes.
    for command, where in ((uvicorn(f"--root-path={root}"), ""), (gunicorn("-k=asgi", f"--root-path={root}"), root)):
        served = serve_app(FASTAPI_WRAPPED, command, where=where)
        assert served.get(f"{where}/").body == b'"home"'
        assert "pyrt_info" in served.metrics()
        assert served.get(f"{where}/monitor/").body == served.monitor().body


@pytest.mark.parametrize("path", ["/internal/metrics", "/internal/metrics/", "/svc/internal/metrics"])
def test_fastapi_behind_a_proxy_answers_with_the_root_path_and_without(serve_app: ServeApp, path: str) -> None:
    served = serve_app(BEHIND_A_PROXY, uvicorn(), where="/internal")
    assert b"pyrt_info" in served.get(path).body


@pytest.mark.parametrize(
    ("kind", "command", "line"),
    [
        ("asgi", gunicorn("-k=sync"), "TypeError: asgi_app() is for ASGI servers, a WSGI server needs wsgi_app()"),
        ("wsgi", uvicorn(), "TypeError: wsgi_app() is for WSGI servers, an ASGI server needs asgi_app()"),
        ("wsgi", gunicorn("-k=asgi"), "TypeError: wsgi_app() is for WSGI servers, an ASGI server needs asgi_app()"),
    ],
)
def test_a_server_of_the_other_kind_logs_which_call_it_needs(
    serve_app: ServeApp, kind: str, command: Command, line: str
) -> None:
    served = serve_app(f"import stator\n\napp = stator.{kind}_app()\n", command)
    assert served.get("/metrics").status == 500
    assert any(line in each for each in served.errors.splitlines())
