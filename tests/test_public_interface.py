"""What can be imported from `stator`, at run time and to a type checker."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import falcon
import falcon.asgi
import prometheus_client
import pytest
from fastapi import FastAPI
from flask import Flask

import stator
from tests.program import ROOT
from tests.web.asgi import call

SLOW = {"falcon", "gunicorn", "psutil", "urllib3", "environs", "structlog", "asyncio", "stator.config"}


class Orders:
    def collect(self, now: float) -> stator.PointsAt:
        return stator.PointsAt("orders", now, points=[stator.Point("open", "Orders not sent yet", 7)])


def ping_db() -> None:
    """Passes."""


async def ping_queue() -> bool:
    return True


# As a user writes it: mypy checks it with all other tests.
def make_observable(consul: str) -> stator.Stator:
    collectors: list[str | stator.Collector] = ["runtime", Orders()]
    return stator.Stator(
        service="shop",
        version="1.4",
        tags=["blue"],
        meta={"team": "payments"},
        consul=consul,
        collectors=collectors,
        checks={"db": ping_db, "queue": ping_queue},
        check_timeout=1.5,
        environ={},
    )


def test_an_application_is_made_observable_in_three_lines() -> None:
    observability = make_observable(consul="")
    app = observability.asgi_app(FastAPI())
    with observability.registered(port=8000) as registration:
        kept: stator.Registration = registration
    assert isinstance(kept, stator.Registration)
    assert b"orders_open 7" in asyncio.run(call(app, "GET", "/metrics")).body
    assert asyncio.run(call(app, "GET", "/monitor")).status == 200


def test_one_object_serves_applications_of_every_kind() -> None:
    observability = make_observable(consul="http://localhost:8500")
    asgi: Callable[[Any, Any, Any], Awaitable[None]] = observability.asgi_app()
    flask = Flask(__name__)
    wsgi: WSGIApplication = observability.wsgi_app(flask)
    observability.add_routes(falcon.App(), prefix="/internal")
    observability.add_routes(falcon.asgi.App())
    assert callable(asgi)
    assert callable(wsgi)


def test_each_shorthand_takes_the_keywords_of_a_stator() -> None:
    collectors: Iterable[Any] = [prometheus_client.CollectorRegistry()]
    results = [
        stator.asgi_app(FastAPI(), service="shop", collectors=collectors, environ={}),
        stator.wsgi_app(Flask(__name__), checks={"db": ping_db}, environ={}),
        stator.registered(port=8000, monitor="/internal/monitor", consul="http://localhost:8500", environ={}),
    ]
    stator.add_routes(falcon.App(), prefix="/internal", service="shop", environ={})
    assert all(results)


def test_every_public_name_is_there_listed_and_says_what_it_is() -> None:
    assert dir(stator) == sorted(stator.__all__)
    for name in set(stator.__all__) - {"Labels", "MetricType", "__version__"}:
        assert getattr(stator, name).__doc__, name


def test_a_public_method_says_what_it_returns_or_does_and_what_it_raises() -> None:
    for name in ("asgi_app", "wsgi_app", "add_routes", "registered"):
        doc = getattr(stator.Stator, name).__doc__
        assert re.match("Returns|Adds", doc)
        assert "Raises:" in doc


def test_an_unknown_name_is_an_attribute_error_as_anywhere() -> None:
    with pytest.raises(AttributeError, match="module 'stator' has no attribute 'nothing'"):
        _ = stator.nothing  # type: ignore[attr-defined]


def test_importing_it_imports_nothing_that_a_collector_does_not_need() -> None:
    code = "import stator; stator.Point; stator.setting; dir(stator); import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert SLOW.isdisjoint(loaded)


RIGHT = """
import stator
from collections.abc import Awaitable, Callable
from typing import Any
from wsgiref.types import WSGIApplication
from prometheus_client import CollectorRegistry

class Orders:
    def collect(self, now: float) -> stator.PointsAt:
        return stator.PointsAt("orders", now)

orders: stator.Collector = Orders()
observability = stator.Stator(service="shop", collectors=["runtime", Orders(), CollectorRegistry()], consul=None)
asgi: Callable[[Any, Any, Any], Awaitable[None]] = observability.asgi_app()
wsgi: WSGIApplication = stator.wsgi_app(checks={"db": lambda: None})
with observability.registered(port=8000) as registration:
    registration.stop()
error: stator.ConfigError
"""
WRONG = """
import stator

stator.Stator(servce="shop")
stator.Stator(service=7)
stator.Stator(collectors=[object()])
stator.asgi_app(checks={"db": 1})
stator.registered("8000")
stator.nothing
"""


def test_a_type_checker_accepts_right_calls_and_refuses_each_wrong_one(tmp_path: Path) -> None:
    files = {"right.py": RIGHT, "wrong.py": WRONG}
    for name, code in files.items():
        (tmp_path / name).write_text(code)
    # With the cache that `make lint` fills.
    command = [sys.executable, "-m", "mypy", "--strict", *(str(tmp_path / name) for name in files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "right.py" not in done.stdout
    refused = {int(line) for line in re.findall(r"wrong\.py:(\d+): error", done.stdout)}
    assert refused == {line for line, code in enumerate(WRONG.splitlines(), 1) if code.startswith("stator.")}, (
        done.stdout
    )
