"""Nothing is lost under hypercorn: it replaces a worker after its requests, and ends when one of them is killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from tests.embedding.applications import hypercorn
from tests.embedding.conftest import ServeApp, Served
from tests.instrumentation.counting import STARLETTE, Asked, ask, counts
from tests.instrumentation.test_killed_workers import links, nothing_lost, scrape
from tests.program import ROOT, eventually

# Takes part in a group for as long as it's let.
CONSUMER = "import stator; stator.share_metrics(); print('ready', flush=True); input()"


def workers(served: Served) -> set[int]:
    """Those that have answered some requests."""
    return ask(served, requests=1).workers


def test_no_answered_request_is_missing_when_workers_are_replaced(serve_app: ServeApp) -> None:
    served = serve_app(STARLETTE, hypercorn("--workers=4", "--max-requests=50"))
    eventually(lambda: len(workers(served)) > 1, within=30)
    asked = Asked()
    with nothing_lost(served, asked):
        while len(asked.workers) < 8 or asked.answered.total() < 400:
            ask(served, requests=20, asked=asked)


def test_a_killed_worker_ends_the_server_and_nothing_is_left(serve_app: ServeApp) -> None:
    served = serve_app(STARLETTE, hypercorn("--workers=4"))
    os.kill(eventually(lambda: workers(served), within=30).pop(), signal.SIGKILL)
    served.ended(within=30)
    eventually(lambda: not list(links(served)), within=30)


@pytest.fixture
def group() -> Iterator[str]:
    """A group that another process keeps."""
    name = f"tests-{uuid4()}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "STTR_METRICS_GROUP": name}
    command = [sys.executable, "-c", CONSUMER]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as consumer:
        assert consumer.stdout is not None
        assert consumer.stdout.readline() == b"ready\n"
        yield name
        consumer.kill()


@pytest.fixture
def supervised(serve_app: ServeApp, group: str) -> Iterator[Served]:
    """A server of the group that is started again when it ends."""

    def command(port: int) -> list[str]:
        line = " ".join(hypercorn("--workers=4")(port))
        return ["sh", "-c", f"while true; do {line}; done"]

    served = serve_app(STARLETTE, command, env={"STTR_METRICS_GROUP": group})
    yield served
    served.stop(signal.SIGKILL)  # first, or it would start another while the rest are killed


def test_a_group_keeps_the_counts_when_the_server_is_started_again(supervised: Served) -> None:
    served = supervised
    falls: list[tuple[float, float]] = []
    scraper = threading.Thread(target=lambda: falls.extend(scrape(served, 200, ("items", "sizes"))))
    scraper.start()
    asked = Asked()
    for _ in range(3):
        known = set(asked.workers)
        while not asked.workers - known:
            ask(served, requests=5, asked=asked)
        with suppress(ProcessLookupError):  # the server ends already
            os.kill(min(asked.workers - known), signal.SIGKILL)
    while asked.answered.total() < 400:
        ask(served, requests=20, asked=asked)
    scraper.join()
    assert falls == []
    after = eventually(lambda: counts(served), within=30)
    for path in asked.answered:
        assert asked.answered[path] <= after[path] <= asked.answered[path] + asked.failed[path]
    assert "metrics are not shared" not in served.errors
