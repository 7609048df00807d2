"""One registration whatever the number of workers, and out of the catalog before it stops answering.

All under load, with the real agent, which checks our health each second.
"""

import http.client
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.programs import Consul, eventually
from tests.program import Program

SERVICE = "stator-1"
CLIENTS = 4
DRAIN = 1.0

Records = Callable[[str, object], None]


@pytest.fixture
def stator(consul: Consul, tmp_path: Path) -> Iterator[Program]:
    env = {
        "STTR_CLIENT_BASEURI": consul.url,
        "STTR_ROSTER_SERVICE_ID": "1",
        "STTR_ROSTER_SERVICE_IPADDRESS": "127.0.0.1",
        "STTR_ROSTER_DRAIN": f"{DRAIN}s",
        "STTR_CONSUL_CHECKINTERVAL": "1s",
        "STTR_SERVER_WORKERS": "4",
        "STTR_LOGGER_LEVEL": "info",
    }
    with Program(env, tmp_path) as running:
        running.wait_for("registered")
        eventually(lambda: consul.catalogued(SERVICE))
        yield running


class Load:
    """Clients that ask on keep-alive connections, one request after another, until they are refused.

    Attributes:
        answered: Requests that were answered with status 200.
        lost: What happened to requests that were not answered.
        closed: How often a connection was closed after an answer, before the next request on it was answered: what a
            keep-alive client must expect, and asks again on another. https://www.rfc-editor.org/rfc/rfc9112#section-9.5
        refused_at: When the first connection was refused, on the monotonic clock.
    """

    def __init__(self, port: int) -> None:
        self.answered = self.closed = 0
        self.lost: list[str] = []
        self.refused_at: float | None = None
        self._port = port
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        used = False
        while not self._stopped.is_set():
            try:
                connection.request("GET", "/monitor/live")
                answer = connection.getresponse()
                answer.read()
            except ConnectionRefusedError:
                self._note(refused=True)
                return
            except (OSError, http.client.HTTPException) as error:
                self._note(closed=used, lost="" if used else repr(error))
                connection.close()
                used = False
                continue
            used = answer.getheader("Connection") != "close"
            self._note(lost="" if answer.status == 200 else f"status {answer.status}")
            time.sleep(0.001)  # so that two cores have time for the rest
        connection.close()

    def _note(self, *, lost: str = "", refused: bool = False, closed: bool = False) -> None:
        with self._lock:
            if closed:
                self.closed += 1
            elif refused:
                self.refused_at = self.refused_at or time.monotonic()
            elif lost:
                self.lost.append(lost)
            else:
                self.answered += 1


@contextmanager
def load(stator: Program) -> Iterator[Load]:
    made = Load(stator.port)
    made.start()
    try:
        eventually(lambda: made.answered > 50)
        yield made
    finally:
        made.stop()


def registrations(stator: Program) -> int:
    return len(stator.lines("sending request", path="/v1/agent/service/register"))


def test_four_workers_are_one_registration_that_outlives_each_of_them(consul: Consul, stator: Program) -> None:
    statuses: set[str] = set()
    workers = eventually(lambda: each if len(each := stator.workers) == 4 else [])
    with load(stator):
        for worker in workers:
            worker.kill()
            # Long enough for a health check to come in between.
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                statuses.add(consul.checks()[f"service:{SERVICE}"]["Status"])
                time.sleep(0.02)
        eventually(lambda: len([each for each in stator.workers if each not in workers]) == 4)
    assert statuses == {"passing"}
    assert list(consul.services()) == [SERVICE]
    assert registrations(stator) == 1
    assert stator.lines("registration lost") == []
    assert stator.stop() == 0


def test_gunicorn_that_dies_under_load_takes_the_registration_with_it(
    consul: Consul, stator: Program, record_property: Records
) -> None:
    with load(stator):
        stator.arbiter.kill()
        start = time.monotonic()
        eventually(lambda: consul.catalogued(SERVICE) is None, every=0.005)
        record_property("arbiter killed: out of the catalog after", f"{time.monotonic() - start:.3f} s")
        assert stator.ended() == 1
    eventually(lambda: not stator.processes(), within=2)


def test_nothing_outlives_a_main_process_that_is_killed_under_load(stator: Program, record_property: Records) -> None:
    with load(stator):
        stator.send(signal.SIGKILL)
        start = time.monotonic()
        eventually(lambda: not stator.processes(), within=2, every=0.01)
        record_property("main process killed: the last process ended after", f"{time.monotonic() - start:.3f} s")


def test_it_is_out_of_the_catalog_before_the_first_refusal_and_loses_no_request(
    consul: Consul, stator: Program, record_property: Records
) -> None:
    with load(stator) as clients:
        start = time.monotonic()
        stator.send(signal.SIGTERM)
        eventually(lambda: consul.catalogued(SERVICE) is None, every=0.005)
        dropped = time.monotonic()
        assert stator.ended() == 0
        ended = time.monotonic()
    record_property("SIGTERM: out of the catalog after", f"{dropped - start:.3f} s")
    record_property("SIGTERM: ended after", f"{ended - start:.3f} s")
    record_property("SIGTERM: requests answered", clients.answered)
    record_property("SIGTERM: connections closed between two requests", clients.closed)
    assert clients.lost == []
    assert clients.refused_at is not None
    assert dropped < clients.refused_at
    assert ended - start < DRAIN + 1.5
    assert not any(psutil.pid_exists(each.pid) for each in stator.processes())
