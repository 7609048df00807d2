"""Nothing that a worker has counted is lost when it is killed, or replaced, and nothing is left behind."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from tests.embedding.applications import gunicorn, uvicorn
from tests.embedding.conftest import ServeApp, Served
from tests.instrumentation import scraping
from tests.instrumentation.counting import FLASK, STARLETTE, Asked, ask, counts, samples
from tests.instrumentation.test_servers import Case
from tests.program import eventually

CASES = {
    "Flask, gunicorn sync": Case(FLASK, gunicorn("-k=sync", "--workers=4", "--max-requests=50")),
    "Flask, gunicorn gthread, preloaded": Case(
        FLASK, gunicorn("-k=gthread", "--workers=4", "--threads=4", "--max-requests=50", "--preload")
    ),
    "Starlette, gunicorn with uvicorn's worker": Case(
        STARLETTE, gunicorn("-k=uvicorn_worker.UvicornWorker", "--workers=4", "--max-requests=50")
    ),
    "Starlette, uvicorn": Case(STARLETTE, uvicorn("--workers=4")),
}


REQUESTS = "http_server_request_duration_seconds"
COUNTERS = ("items", "sizes", REQUESTS)


@pytest.fixture(params=CASES)
def served(request: pytest.FixtureRequest, serve_app: ServeApp) -> Iterator[Served]:
    case = CASES[request.param]
    running = serve_app(case.code, case.command)
    eventually(lambda: len(psutil.Process(running.pid).children()) >= 4, within=30)
    eventually(lambda: len(ask(running, requests=1).workers) > 1, within=30)
    yield running
    running.kill()


@contextmanager
def kills(asked: Asked, seconds: float) -> Iterator[list[int]]:
    """Kills a worker that has answered, every so many seconds."""
    killed: list[int] = []
    end = threading.Event()

    def kill() -> None:
        while not end.wait(seconds):
            for victim in sorted(asked.workers - set(killed))[:1]:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        end.set()
        thread.join()


def scrape(served: Served, scrapes: int, names: tuple[str, ...] = COUNTERS) -> list[tuple[float, float]]:
    """Scrapes so often, and returns each fall of a counter."""
    falls: list[tuple[float, float]] = []
    last: dict[str, float] = {}
    done = 0
    while done < scrapes:
        with suppress(OSError, HTTPException, AssertionError):
            found = samples(served.metrics())
            done += 1
            now = {name + label: value for (name, label), value in found.items() if name.startswith(names)}
            falls += [(last[key], now.get(key, 0.0)) for key in last if now.get(key, 0.0) < last[key]]
            last = now
    return falls


def requests_of(served: Served) -> int:
    """How many requests of the application were counted."""
    found = scraping.counts(served.metrics())
    return sum(number for (_, route, _, _), number in found.items() if route.startswith("/items/"))


def open_files(served: Served) -> int:
    return psutil.Process(served.pid).num_fds()


def test_no_answered_request_is_missing_and_no_counter_goes_down(served: Served) -> None:
    asked = Asked()
    with nothing_lost(served, asked), kills(asked, 0.3) as killed:
        while len(killed) < 3 or asked.answered.total() < 400:
            ask(served, requests=20, asked=asked)


@contextmanager
def nothing_lost(served: Served, asked: Asked) -> Iterator[None]:
    """Checks that 200 scrapes meanwhile have no counter that goes down, and that all is counted and nothing left."""
    before, requests, files = counts(served), requests_of(served), open_files(served)
    falls: list[tuple[float, float]] = []
    scraper = threading.Thread(target=lambda: falls.extend(scrape(served, 200)))
    scraper.start()
    try:
        yield
    finally:
        scraper.join()
    assert falls == []
    after = eventually(lambda: counts(served)) - before
    for path in asked.answered:
        assert asked.answered[path] <= after[path] <= asked.answered[path] + asked.failed[path]
    answered, failed = asked.answered.total(), asked.failed.total()
    assert answered <= requests_of(served) - requests <= answered + failed
    assert list(Path("/dev/shm").glob("*stator*")) == []
    assert list(served.folder.glob("stator-*")) == []
    eventually(lambda: open_files(served) <= files, within=20)


def test_nothing_is_left_of_a_server_that_is_gone(served: Served) -> None:
    memory = "/memfd:stator-metrics-"
    assert memory in "".join(links(served))
    served.send(signal.SIGKILL)
    served.ended()
    served.kill()
    eventually(lambda: memory not in "".join(links(served)))


def links(served: Served) -> Iterator[str]:
    """The open files of all processes that have the application's environment."""
    for each in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if each.environ().get("TMPDIR") == str(served.folder):
                yield from (str(path.readlink()) for path in Path(f"/proc/{each.pid}/fd").iterdir())
