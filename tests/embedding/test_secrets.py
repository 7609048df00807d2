"""Secrets appear nowhere of an application with Stator in it: not in its log, the keeper's, its answers or files."""

import json
import logging
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import stator
from tests.captured_log import CapturedLog
from tests.embedding.applications import uvicorn
from tests.embedding.conftest import ServeApp
from tests.embedding.registering import keepers
from tests.integration.programs import free_ports
from tests.program import eventually
from tests.secret_places import MASK, EchoingAgent, Places

# Its check and its collector fail with what they should not tell.
APP = """
import logging
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import stator
from fastapi import FastAPI

logging.basicConfig(level="INFO")
TOKEN = os.environ.get("STTR_CONSUL_TOKEN") or Path(os.environ["STTR_CONSUL_TOKEN_FILE"]).read_text()


def fails(now=None):
    raise ConnectionError(f"no {TOKEN} at {os.environ['DATABASE']}")


class Orders:
    collect = staticmethod(fails)


observability = stator.Stator(service="shop", collectors=[Orders()], checks={"db": fails})


@asynccontextmanager
async def lifespan(app):
    with observability.registered(port=int(os.environ["PORT"]), monitor=os.environ["MONITOR"]):
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/internal", observability.asgi_app())
"""


@pytest.mark.parametrize("are_files", [True, False])
def test_no_secret_is_in_logs_answers_or_files(serve_app: ServeApp, tmp_path: Path, *, are_files: bool) -> None:
    places, (port,) = Places(), free_ports(1)
    variables = places.environment(tmp_path if are_files else None)
    with EchoingAgent() as agent:
        env = variables | {
            "DATABASE": places.uri("a database", "db", "/shop"),
            "MONITOR": f"/internal/monitor/live?token={places.plain('the query of the health check')}",
            "PORT": str(port),
            "STTR_CLIENT_BASEURI": agent.uri,
            "STTR_ROSTER_RETRYMAX": "50ms",
            "STTR_LOGGER_LEVEL": "debug",
        }
        served = serve_app(APP, uvicorn("--no-access-log"), where="/internal", env=env, port=port)
        eventually(lambda: len(agent.asked("/v1/agent/service/register")) > 6)
        agent.is_failing = False
        eventually(lambda: agent.services)
        health, metrics = served.monitor().body.decode(), served.metrics()
        (keeper,) = keepers(served.folder)
        command = " ".join(keeper.cmdline())
        files = b"".join(file.read_bytes() for file in served.folder.glob("stator-*"))
        agent.is_failing = True
        failed = len(agent.requests)
        eventually(lambda: len(agent.requests) > failed + 6)
        served.stop()
        eventually(lambda: not keepers(served.folder))
    assert json.loads(health)["checks"]["db"].startswith(
        f"ConnectionError: no {MASK} at https://{MASK}@db/shop?key={MASK}"
    )
    assert "failed to collect" in served.errors
    assert "health check fails" in served.errors
    assert "received response" in served.errors
    assert served.errors.count(MASK) > 20
    places.holds_none(stdout=served.output, stderr=served.errors, health=health, metrics=metrics)
    places.holds_none(command=command, files=files.decode("latin-1"))


@pytest.mark.parametrize("kind", ["standard library", "structlog"])
def test_no_secret_is_in_what_an_application_is_given_to_log(
    kind: str, story: CapturedLog, caplog: pytest.LogCaptureFixture
) -> None:
    places = Places()
    environ = places.environment() | {"STTR_COLLECTORS": "wave"}
    secret = places.secret("STTR_CONSUL_TOKEN")

    def fails() -> None:
        try:
            int(secret)
        except ValueError as error:
            msg = f"no luck with http://me:{places.plain('a user')}@db"
            raise ConnectionError(msg) from error

    log = story.log if kind == "structlog" else logging.getLogger("stator")
    app = stator.Stator(checks={"db": fails}, environ=environ, log=log).wsgi_app()
    request: dict[str, Any] = {"PATH_INFO": "/monitor"}
    setup_testing_defaults(request)
    body = b"".join(app(request, lambda *_: lambda _: None))
    logged = story.text + caplog.text
    assert "health check fails" in logged
    assert "test_secrets.py" in logged
    assert MASK in logged
    places.holds_none(logged=logged, body=body.decode())
