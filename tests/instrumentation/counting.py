"""Applications that count with prometheus_client, and clients that ask them."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException

from prometheus_client.parser import text_string_to_metric_families

from tests.embedding.conftest import Served

METRICS = """
import stator

stator.share_metrics()

import ctypes
import os
from prometheus_client import Counter, Gauge, Histogram

ITEMS = Counter("items", "Items that were asked for", ["path"])
SIZES = Histogram("sizes", "How large they are", buckets=[1, 10])
UP = Gauge("up_workers", "Workers", multiprocess_mode="livesum")

def count(path):
    UP.set(1)
    ITEMS.labels(path).inc()
    SIZES.observe(len(path))
    return str(os.getpid())


def hang():
    # One call in C that keeps the GIL, for 5 seconds.
    ctypes.PyDLL(None).sleep(5)
"""
FLASK = f"""{METRICS}
from flask import Flask

app = Flask(__name__)


@app.get("/items/<path>")
def items(path):
    return count(path)


@app.get("/hang")
def hangs():
    hang()
    return ""


app.wsgi_app = stator.wsgi_app(app.wsgi_app, collectors=["prometheus_client"])
"""
STARLETTE = f"""{METRICS}
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def items(request):
    return PlainTextResponse(count(request.path_params["path"]))


async def hangs(request):
    hang()
    return PlainTextResponse("")


routes = [Route("/items/{{path}}", items), Route("/hang", hangs)]
app = stator.asgi_app(Starlette(routes=routes), collectors=["prometheus_client"])
"""


class Asked:
    """What clients got.

    Attributes:
        answered: Requests by path that were answered.
        failed: Those by path that were not: the worker may have counted them before it was killed.
        workers: Processes that answered.
    """

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.workers: set[int] = set()


def ask(served: Served, requests: int, clients: int = 8, asked: Asked | None = None) -> Asked:
    """Sends so many requests of each client, all at once; the paths are the numbers 0 to 4."""
    asked, lock = asked or Asked(), threading.Lock()

    def client(number: int) -> None:
        for nth in range(requests):
            path = str((number + nth) % 5)
            connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
            body = b""
            with suppress(OSError, HTTPException):
                connection.request("GET", f"/items/{path}", headers={"Connection": "close"})
                response = connection.getresponse()
                body = response.read() if response.status == 200 else b""
            connection.close()
            with lock:
                (asked.answered if body else asked.failed)[path] += 1
                if body:
                    asked.workers.add(int(body))

    together([partial(client, number) for number in range(clients)])
    return asked


def together(calls: Sequence[Callable[[], object]]) -> None:
    """Makes calls at the same time, and returns when all have returned."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def samples(text: str) -> dict[tuple[str, str], float]:
    """Values of a scrape by name and the value of the only label, or an empty text; without ``_created``."""
    families = text_string_to_metric_families(text)
    every = (sample for family in families for sample in family.samples if not sample.name.endswith("_created"))
    return {(sample.name, "".join(sample.labels.values())): sample.value for sample in every}


def counts(served: Served) -> Counter[str]:
    """The requests by path, as a scrape has them."""
    return item_counts(served.metrics())


def item_counts(text: str) -> Counter[str]:
    """The requests by path, in a scrape's text."""
    return Counter({path: int(value) for (name, path), value in samples(text).items() if name == "items_total"})
