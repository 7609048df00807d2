"""The same small shop, observed by Stator and by its peers: four workers each, set up as the peers' own pages say."""

from collections.abc import Mapping
from typing import NamedTuple

from tests.embedding.applications import Command, gunicorn

# What the application keeps with prometheus_client, the same for all.
METRICS = """
import os
import threading
import time

from prometheus_client import REGISTRY, Counter, Enum, Gauge, Info
from prometheus_client.core import GaugeMetricFamily

ORDERS = Counter("shop_orders", "Orders taken")
BUSY = Gauge("shop_busy", "Orders that a worker has", multiprocess_mode="liveall")
SEEN = Gauge("shop_seen", "Orders that a worker has had", multiprocess_mode="all")
Info("shop_build", "What runs").info({"version": "1"})
Enum("shop_state", "Whether it sells", states=["open", "closed"]).state("open")
BUSY.set(1)
SEEN.set(1)


class Stock:
    def collect(self):
        yield GaugeMetricFamily("shop_stock", "Things in stock", 7)


REGISTRY.register(Stock())


def order():
    ORDERS.inc(exemplar={"trace_id": "4bf92f35"})
    return str(os.getpid())
"""
FLASK = """
from flask import Blueprint, Flask

app, shop = Flask(__name__), Blueprint("shop", __name__)


@app.get("/items/<id>")
@shop.get("/things/<id>")
def item(id, town=""):
    time.sleep(0.005)  # so that others get some too
    return order()


@app.get("/raises")
def raises():
    raise LookupError("no such shelf")


app.register_blueprint(shop, url_prefix="/shop/<town>")
"""
ASGI_VIEWS = """
import asyncio


async def item(request):
    await asyncio.sleep(0.005)  # so that others get some too
    return PlainTextResponse(order())


async def raises(request):
    raise LookupError("no such shelf")

"""
STARLETTE = f"""
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
{ASGI_VIEWS}
shop = Starlette(routes=[Route("/things/{{id}}", item)])
app = Starlette(routes=[Route("/items/{{id}}", item), Route("/raises", raises), Mount("/shop/{{town}}", shop)])
"""
FASTAPI = f"""
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
{ASGI_VIEWS}
app, shop = FastAPI(), FastAPI()
app.add_route("/items/{{id}}", item)
app.add_route("/raises", raises)
shop.add_route("/things/{{id}}", item)
app.mount("/shop/{{town}}", shop)
"""
SHARE = "import stator\n\nstator.share_metrics()\n"
COLLECTORS = 'collectors=["runtime", "process", "prometheus_client"]'
# As https://prometheus.github.io/client_python/multiprocess/ has it.
LIBRARY = """
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector
from werkzeug.middleware.dispatcher import DispatcherMiddleware


def metrics(environ, start_response):
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return make_wsgi_app(registry)(environ, start_response)


app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/metrics": metrics})
"""
INSTRUMENTATOR = """
from prometheus_fastapi_instrumentator import Instrumentator

Instrumentator().instrument(app).expose(app)
"""
STARLETTE_EXPORTER = """
from starlette_exporter import PrometheusMiddleware, handle_openmetrics

app.add_middleware(PrometheusMiddleware)
app.add_route("/metrics", handle_openmetrics)
"""
FLASK_EXPORTER = """
from prometheus_flask_exporter import PrometheusMetrics
from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

kind = GunicornInternalPrometheusMetrics if "PROMETHEUS_MULTIPROC_DIR" in os.environ else PrometheusMetrics
kind(app)
"""
# So that a test knows of each worker that it has loaded the application.
READY = """
def post_worker_init(worker):
    worker.log.info("worker %s is ready", worker.pid)
"""
HOOK = """
from prometheus_client.multiprocess import mark_process_dead


def child_exit(server, worker):
    mark_process_dead(worker.pid)
"""

WSGI: Command = gunicorn("-k=gthread", "--threads=4", "--workers=4")
ASGI: Command = gunicorn("-k=uvicorn_worker.UvicornWorker", "--workers=4")


class Subject(NamedTuple):
    """An application that is observed.

    Attributes:
        requests: The sample that counts requests, or empty, and its label for the route.
        has_folder: Whether it's set up with PROMETHEUS_MULTIPROC_DIR, and the hook that goes with that.
    """

    code: str
    command: Command
    requests: tuple[str, str] = ("", "")
    has_folder: bool = False

    def files(self) -> Mapping[str, str]:
        """What lies beside the application."""
        return {"gunicorn.conf.py": f"{READY}\n{HOOK}" if self.has_folder else READY}


OURS = ("http_server_request_duration_seconds_count", "http_route")
STATOR = {
    "Flask": Subject(f"{SHARE}{METRICS}{FLASK}\napp = stator.wsgi_app(app, {COLLECTORS})", WSGI, OURS),
    "Starlette": Subject(f"{SHARE}{METRICS}{STARLETTE}\napp = stator.asgi_app(app, {COLLECTORS})", ASGI, OURS),
}
PEERS = {
    "prometheus_client": Subject(f"{METRICS}{FLASK}{LIBRARY}", WSGI),
    "prometheus-fastapi-instrumentator": Subject(
        f"{METRICS}{FASTAPI}{INSTRUMENTATOR}", ASGI, ("http_requests_total", "handler")
    ),
    "starlette_exporter": Subject(
        f"{METRICS}{STARLETTE}{STARLETTE_EXPORTER}", ASGI, ("starlette_requests_total", "path")
    ),
    "prometheus_flask_exporter": Subject(
        f"{METRICS}{FLASK}{FLASK_EXPORTER}", WSGI, ("flask_http_request_duration_seconds_count", "path")
    ),
}
