"""Whichever worker of a real server answers a scrape, it has what all of them have counted."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import NamedTuple

import pytest

from tests.embedding.applications import Command, gunicorn, uvicorn
from tests.embedding.conftest import ServeApp, Served
from tests.instrumentation.counting import FLASK, STARLETTE, ask, counts, item_counts, samples
from tests.program import eventually, stand_still


class Case(NamedTuple):
    """An application under a server of four workers."""

    code: str
    command: Command


CASES = {
    "Flask, gunicorn sync": Case(FLASK, gunicorn("-k=sync", "--workers=4")),
    "Flask, gunicorn gthread, preloaded": Case(
        FLASK, gunicorn("-k=gthread", "--workers=4", "--threads=4", "--preload")
    ),
    "Starlette, gunicorn with uvicorn's worker": Case(
        STARLETTE, gunicorn("-k=uvicorn_worker.UvicornWorker", "--workers=4")
    ),
    "Starlette, uvicorn": Case(STARLETTE, uvicorn("--workers=4")),
}


@pytest.fixture(params=CASES)
def served(request: pytest.FixtureRequest, serve_app: ServeApp) -> Iterator[Served]:
    case = CASES[request.param]
    running = serve_app(case.code, case.command)
    eventually(lambda: len(ask(running, requests=1).workers) > 1, within=30)
    yield running
    running.kill()


def test_every_scrape_has_exactly_what_all_workers_have_counted(served: Served) -> None:
    before = counts(served)
    asked = ask(served, requests=50)
    assert sum(asked.answered.values()) == 400
    assert len(asked.workers) > 1
    for _ in range(12):
        assert counts(served) - before == asked.answered
        found = samples(served.metrics())
        assert found["sizes_count", ""] == found["sizes_sum", ""] == found["sizes_bucket", "1.0"]
        assert found["sizes_count", ""] == 400 + before.total()
        assert found["up_workers", ""] >= len(asked.workers)


def test_a_scrape_waits_for_no_worker_that_is_busy_or_stopped(served: Served) -> None:
    asked = ask(served, requests=50)
    expected = counts(served)
    busy = threading.Thread(target=lambda: served.get("/hang"))
    busy.start()
    stopped = min(asked.workers)
    stand_still(stopped)
    try:
        # What the two that are left have answered; a connection that the others accept is not answered.
        answers = [found for _ in range(12) if (found := scrape_within(served, 2.0)) is not None]
    finally:
        os.kill(stopped, signal.SIGCONT)
    busy.join()
    assert answers
    assert answers == [expected] * len(answers)
    assert counts(served) == expected


def scrape_within(served: Served, seconds: float) -> Counter[str] | None:
    """What a scrape has, or None if a worker has it that does not answer."""
    connection = HTTPConnection("127.0.0.1", served.port, timeout=seconds)
    try:
        connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
        return item_counts(connection.getresponse().read().decode())
    except OSError:
        return None
    finally:
        connection.close()
