"""Whichever worker of a real server answers a scrape, it has what all of them have counted."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.embedding.applications import Command, gunicorn, uvicorn
from tests.embedding.conftest import ServeApp, Served
from tests.instrumentation.applications import FLASK, STARLETTE, ask, counts, samples
from tests.program import eventually


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
