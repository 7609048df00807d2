"""What wrapping adds to an application's request, in-process and without sockets, beside its peers.

Each subject is measured in a process of its own, in turns with the same application unwrapped. The figures are CPU
time, since others on the machine come and go.
"""

import asyncio
import gc
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from statistics import median
from typing import Any

from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import stator
from tests.bench.figures import Figure
from tests.bench.processes import ROOT
from tests.integration.fetch import FOLDER

PACKAGES = FOLDER / "instrumentation"
REQUIREMENTS = (
    "prometheus-fastapi-instrumentator==8.1.0",
    "starlette_exporter==0.24.0",
    "prometheus-flask-exporter==0.23.2",
    "opentelemetry-instrumentation-asgi==0.66b1",
    "opentelemetry-instrumentation-wsgi==0.66b1",
    "opentelemetry-exporter-prometheus==0.66b1",
)
# Turns of each subject's process, pairs of loads in a turn, and requests of a load.
TURNS, PAIRS, REQUESTS = 3, 60, 60
HEADERS = {
    "host": "127.0.0.1:8000",
    "user-agent": "curl/8.14.1",
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "accept-language": "de",
    "cookie": "session=1",
}


def run() -> Iterator[Figure]:
    """Measures metrics alone, and with the line of log, against the cheapest peer that does metrics."""
    if not has_peers():
        return
    for kind, peers in (("Starlette", ASGI_PEERS), ("Flask", WSGI_PEERS)):
        subjects = ("metrics", "line", *peers)
        turns = [{name: measured(kind, name) for name in subjects} for _ in range(TURNS)]
        taken = {name: median(turn[name] for turn in turns) for name in subjects}
        cheapest = min(peers, key=lambda name: taken[name])
        details = ", ".join(f"{name} {seconds * 1e6:.1f} µs" for name, seconds in taken.items())
        for name, goal in (("metrics", "0.33 or less"), ("line", "1 or less")):
            ratio = taken[name] / taken[cheapest]
            what = "metrics" if name == "metrics" else "metrics and a line of log"
            yield Figure(f"{kind}: {what}", f"{ratio:.2f} times what {cheapest} adds to a request", goal, details)


def has_peers() -> bool:
    """Installs the peers into a folder of their own, and returns whether they are there."""
    stamp = PACKAGES / "stamp"
    if stamp.is_file() and stamp.read_text() == "\n".join(REQUIREMENTS):
        return True
    command = [sys.executable, "-m", "pip", "install", "-qq", "--upgrade", "--target", str(PACKAGES), *REQUIREMENTS]
    if subprocess.run(command, check=False).returncode:
        print("wrapping: not run, since its peers can't be installed", flush=True)
        return False
    stamp.write_text("\n".join(REQUIREMENTS))
    return True


def measured(kind: str, name: str) -> float:
    """The seconds that a subject adds to a request, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.wrapping", kind, name]
    # Frameworks are those that the tests run with: the peers' folder comes last.
    code = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if code.returncode:
        raise RuntimeError(code.stderr)
    return float(code.stdout)


def measure(kind: str, name: str) -> float:
    """The same in this process."""
    sys.path.append(str(PACKAGES))
    logging.disable(logging.WARNING if name not in ("metrics", "line") else logging.NOTSET)
    bare, subject = (starlette(), starlette()) if kind == "Starlette" else (flask(), flask())
    wrapped = SUBJECTS[kind][name](subject)
    load = load_asgi if kind == "Starlette" else load_wsgi
    gc.collect()
    gc.freeze()
    load(bare), load(wrapped)
    pairs = [(load(bare), load(wrapped)) for _ in range(PAIRS)]
    return median(after - before for before, after in pairs)


def starlette() -> Any:
    """A hello of Starlette's."""

    async def hello(_request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/hello/{name}", hello)])


def flask() -> Any:
    """A hello of Flask's."""
    app = Flask(__name__)
    app.get("/hello/<name>")(lambda name: "hello")
    return app


def load_asgi(app: Any) -> float:
    """The CPU seconds of a request to an ASGI application."""
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        """Takes it."""

    async def requests() -> float:
        begin = time.thread_time()
        for _ in range(REQUESTS):
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/hello/you",
                "raw_path": b"/hello/you",
                "query_string": b"",
                "root_path": "",
                "headers": headers,
                "server": ("127.0.0.1", 8000),
                "client": ("127.0.0.1", 4567),
            }
            await app(scope, receive, send)
        return (time.thread_time() - begin) / REQUESTS

    return LOOP.run_until_complete(requests())


def load_wsgi(app: Any) -> float:
    """The CPU seconds of a request to a WSGI application."""
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()}
    begin = time.thread_time()
    for _ in range(REQUESTS):
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/hello/you",
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "4567",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            **headers,
        }
        body = app(environ, lambda *_: None)
        b"".join(body)
        body.close()
    return (time.thread_time() - begin) / REQUESTS


def with_line(wrap: Callable[..., Any]) -> Callable[[Any], Any]:
    """Wraps with the line of log, which goes to a file as logging's own handlers write it."""

    def wrapped(app: Any) -> Any:
        logger = logging.getLogger("stator.access")
        logger.setLevel(logging.INFO)
        logger.addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: PTH123, SIM115 # as long as it runs
        return wrap(app, environ={})

    return wrapped


def instrumentator(app: Any) -> Any:
    """Wraps with prometheus-fastapi-instrumentator."""
    return import_module("prometheus_fastapi_instrumentator").Instrumentator().instrument(app) and app


def starlette_exporter(app: Any) -> Any:
    """Wraps with starlette_exporter."""
    app.add_middleware(import_module("starlette_exporter").PrometheusMiddleware)
    return app


def flask_exporter(app: Any) -> Any:
    """Wraps with prometheus_flask_exporter."""
    import_module("prometheus_flask_exporter").PrometheusMetrics(app, path=None)
    return app


def opentelemetry(kind: str) -> Callable[[Any], Any]:
    """Wraps with OpenTelemetry's middleware, whose metrics its Prometheus exporter has."""

    def wrapped(app: Any) -> Any:
        reader = import_module("opentelemetry.exporter.prometheus").PrometheusMetricReader()
        provider = import_module("opentelemetry.sdk.metrics").MeterProvider(metric_readers=[reader])
        import_module("opentelemetry.metrics").set_meter_provider(provider)
        return import_module(f"opentelemetry.instrumentation.{kind}").OpenTelemetryMiddleware(app)

    return wrapped


ASGI_PEERS: dict[str, Callable[[Any], Any]] = {
    "prometheus-fastapi-instrumentator": instrumentator,
    "starlette_exporter": starlette_exporter,
    "OpenTelemetry": opentelemetry("asgi"),
}
WSGI_PEERS: dict[str, Callable[[Any], Any]] = {
    "prometheus_flask_exporter": flask_exporter,
    "OpenTelemetry": opentelemetry("wsgi"),
}
QUIET = {"STTR_LOGGER_ACCESS": "off"}
SUBJECTS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "Starlette": {
        "metrics": lambda app: stator.asgi_app(app, environ=QUIET),
        "line": with_line(stator.asgi_app),
        **ASGI_PEERS,
    },
    "Flask": {
        "metrics": lambda app: stator.wsgi_app(app, environ=QUIET),
        "line": with_line(stator.wsgi_app),
        **WSGI_PEERS,
    },
}

if __name__ == "__main__":
    LOOP = asyncio.new_event_loop()
    print(measure(*sys.argv[1:]))
