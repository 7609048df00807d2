"""A scrape counts the requests of all workers, whichever of them answers it."""

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException

import pytest

from tests.embedding.applications import Command, gunicorn, uvicorn
from tests.embedding.conftest import ServeApp, Served
from tests.instrumentation.applications import WRAPPED, Wrapped
from tests.instrumentation.counting import together
from tests.instrumentation.scraping import Count, counts, samples
from tests.program import eventually

WORKERS, CLIENTS, REQUESTS, SCRAPES = 4, 8, 500, 30


def hypercorn(port: int) -> list[str]:
    return [sys.executable, "-m", "hypercorn", f"--bind=127.0.0.1:{port}", f"--workers={WORKERS}", "example:app"]


def under(name: str, command: Command) -> Wrapped:
    """One of the applications, under a server of several workers."""
    return WRAPPED[name]._replace(command=command)


CASES = {
    "Flask, gunicorn sync": under("Flask, wsgiref", gunicorn("-k=sync", "--workers=4")),
    "Flask, gunicorn gthread": under("Flask, wsgiref", gunicorn("-k=gthread", "--threads=4", "--workers=4")),
    "Starlette, gunicorn with uvicorn's worker": under(
        "Starlette, uvicorn", gunicorn("-k=uvicorn_worker.UvicornWorker", "--workers=4", "--preload")
    ),
    "Starlette, uvicorn": under("Starlette, uvicorn", uvicorn("--workers=4")),
    "Starlette, hypercorn": under("Starlette, uvicorn", hypercorn),
    "FastAPI, uvicorn": under("FastAPI, uvicorn with a root path", uvicorn("--workers=4")),
    "Django, gunicorn sync": under("Django WSGI, gunicorn sync", gunicorn("-k=sync", "--workers=4")),
    "Falcon, gunicorn sync": under("Falcon WSGI, gunicorn sync", gunicorn("-k=sync", "--workers=4")),
}


@pytest.fixture(params=CASES)
def wrapped(request: pytest.FixtureRequest) -> Wrapped:
    return CASES[request.param]


@pytest.fixture
def served(wrapped: Wrapped, serve_app: ServeApp) -> Iterator[Served]:
    running = serve_app(wrapped.code, wrapped.command, files=wrapped.files)
    yield running
    running.kill()


def plan(wrapped: Wrapped, client: int) -> Iterator[tuple[str, Count]]:
    """The paths that a client asks for, each with what a request for it counts as."""
    shared = {
        "/items/{}": (wrapped.item, "200", ""),
        "/none/{}": ("", "404", ""),
        "/broken": ("/broken", "500", ""),
        "/raises": ("/raises", "500", wrapped.error),
        "/shop/bonn/things/{}": (wrapped.shop, "200", ""),
        "/stream": ("/stream", "200", ""),
    }
    for nth in range(REQUESTS):
        # Few streams and clients that leave, which take long.
        path = "/endless" if nth % 100 == 99 else list(shared)[nth % (6 if nth % 7 == 0 else 5)]
        route, status, error = shared.get(path, ("/endless", "200", ""))
        yield path.format(client * REQUESTS + nth), ("GET", route, status, error)


def ask(served: Served, path: str, status: str) -> None:
    """Sends a request; leaves before the end of a body that has none."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=30)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        assert str(response.status) == status
        response.read(1000 if path == "/endless" else None)
    finally:
        connection.close()


def test_every_scrape_has_exactly_the_requests_of_all_clients(served: Served, wrapped: Wrapped) -> None:
    plans = [list(plan(wrapped, client)) for client in range(CLIENTS)]
    expected = Counter(count for each in plans for _, count in each)
    errors: list[BaseException] = []

    def client(requests: list[tuple[str, Count]]) -> None:
        try:
            for path, (_, _, status, _) in requests:
                ask(served, path, status)
        except BaseException as error:  # noqa: BLE001 # for the test's own thread
            errors.append(error)

    together([partial(client, each) for each in plans])
    assert errors == []
    # A server notices only by and by that a client has left.
    eventually(lambda: sum(counts(served.metrics()).values()) == expected.total(), within=30)
    for _ in range(SCRAPES):
        text = served.metrics()
        assert counts(text) == expected
        assert set(samples(text, "http_server_active_requests").values()) == {0}
    assert expected.total() == CLIENTS * REQUESTS


def test_a_server_that_reloads_goes_on_counting(serve_app: ServeApp) -> None:

    wrapped = CASES["Flask, gunicorn sync"]
    served = serve_app(wrapped.code, wrapped.command)
    for nth in range(20):
        ask(served, f"/items/{nth}", "200")
    booted = served.errors.count("Booting worker")
    served.send(signal.SIGHUP)
    eventually(lambda: served.errors.count("Booting worker") == booted + WORKERS, within=30)
    for nth in range(20):
        with suppress(OSError, HTTPException):
            ask(served, f"/items/{nth}", "200")
    assert counts(served.metrics())["GET", wrapped.item, "200", ""] >= 40
