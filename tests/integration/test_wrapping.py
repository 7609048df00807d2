"""Any program can be wrapped: registered at its own port, found and scraped through Consul, and stopped without a loss.

The clients do what clients of a catalog do: they leave a service once Consul does not list it, which is what the drain
is for. What a server does to those that stay is its own affair.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.integration.children import CHILDREN, Child
from tests.integration.conftest import StartsPrometheus
from tests.integration.programs import Consul, Prometheus, eventually, free_ports
from tests.integration.test_discovery import scrape_config
from tests.program import Program

SERVICE = "stator-1"
CLIENTS = 4
DRAIN = 1.0
LAG = 0.3  # seconds until a client has heard that the service is gone

Records = Callable[[str, object], None]


class Wrapped(NamedTuple):
    """A program that Stator runs."""

    child: Child
    port: int
    stator: Program
    name: str

    def tree(self) -> list[psutil.Process]:
        """Its processes, and ours."""
        main = psutil.Process(self.stator.pid)
        return [main, *main.children(recursive=True)]


@pytest.fixture(params=CHILDREN)
def wrapped(request: pytest.FixtureRequest, consul: Consul, tmp_path: Path) -> Iterator[Wrapped]:
    child, (port,) = CHILDREN[request.param], free_ports(1)
    with ExitStack() as stack:
        started = child.prepare(port, tmp_path, stack)
        command = [*map(str, started.command)]
        env = {
            "STTR_CLIENT_BASEURI": consul.url,
            "STTR_ROSTER_SERVICE_ID": "1",
            "STTR_ROSTER_SERVICE_TAGS": "dev,metrics",
            "STTR_ROSTER_SERVICE_IPADDRESS": "127.0.0.1",
            "STTR_ROSTER_SERVICE_PORT": str(port),
            "STTR_ROSTER_DRAIN": f"{DRAIN}s",
            "STTR_CONSUL_CHECKINTERVAL": "1s",
            "STTR_CHILD_STOPSIGNAL": child.stop_signal,
            "STTR_LOGGER_ACCESS": "off",
        }
        running = stack.enter_context(Program({**started.env, **env}, tmp_path, args=("--", *command)))
        made = Wrapped(child, port, running, command[0])
        stack.callback(lambda: _kill(made))
        running.wait_for("registered", within=30)
        yield made


def _kill(wrapped: Wrapped) -> None:
    """Ends all that a failed test has left."""
    with suppress(psutil.NoSuchProcess):
        for each in wrapped.tree():
            with suppress(psutil.NoSuchProcess):
                each.kill()


class Load:
    """Clients that ask on a connection that they keep, one request after another, until they are told to leave.

    Attributes:
        answered: Requests that were answered.
        lost: What happened to those that were not.
    """

    def __init__(self, wrapped: Wrapped) -> None:
        self.answered = 0
        self.lost: list[str] = []
        self._wrapped = wrapped
        self._leave = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Lets the last answers come."""
        self._leave.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self) -> None:
        try:
            with closing(self._wrapped.child.client(self._wrapped.port)) as client:
                while not self._leave.is_set():
                    client.ask()
                    with self._lock:
                        self.answered += 1
                    time.sleep(0.001)  # so that two cores have time for the rest
        except (OSError, HTTPException) as error:
            self.lost.append(repr(error))


class Refusal:
    """Connects again and again, until that is refused: `at` is when, on the monotonic clock."""

    def __init__(self, port: int) -> None:
        self.at: float | None = None
        self._port = port
        self._thread = threading.Thread(target=self._connect)
        self._thread.start()

    def wait(self) -> None:
        self._thread.join(20)

    def _connect(self) -> None:
        end = time.monotonic() + 15
        while self.at is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=10).close()
            except ConnectionRefusedError:
                self.at = time.monotonic()
            except OSError:
                pass  # it was taken, and reset
            time.sleep(0.005)


def test_it_is_registered_scraped_and_stopped_without_a_loss(
    consul: Consul, wrapped: Wrapped, prometheus: StartsPrometheus, record_property: Records
) -> None:
    stator = wrapped.stator
    # What Prometheus does not find at its first look it finds after its refresh interval: 30 seconds.
    service = eventually(lambda: consul.catalogued(SERVICE))
    assert service is not None
    assert (service["ServiceAddress"], service["ServicePort"]) == ("127.0.0.1", wrapped.port)
    eventually(lambda: consul.checks()[f"service:{SERVICE}"]["Status"] == "passing")
    assert_is_scraped(prometheus(scrape_config(consul)), wrapped)

    tree = wrapped.tree()
    clients = Load(wrapped)
    try:
        eventually(lambda: clients.answered > 50 or clients.lost)
        refusal = Refusal(wrapped.port)
        asked = time.monotonic()
        stator.send(signal.SIGTERM)
        eventually(lambda: consul.catalogued(SERVICE) is None, every=0.005)
        dropped = time.monotonic()
        time.sleep(LAG)
    finally:
        clients.leave()
    assert stator.ended(within=20) == wrapped.child.status
    refusal.wait()
    assert clients.lost == []
    assert refusal.at is not None
    assert dropped < refusal.at
    record_property("SIGTERM: out of the catalog after", f"{dropped - asked:.3f} s")
    record_property("SIGTERM: first refusal after", f"{refusal.at - asked:.3f} s")
    record_property("SIGTERM: requests answered", clients.answered)
    assert consul.services() == {}
    assert stator.lines("program left processes behind, killing them") == []
    eventually(lambda: not any(map(is_running, tree)))


@pytest.mark.parametrize("wrapped", ["nginx", "postgresql", "gunicorn"], indirect=True)
def test_one_that_is_killed_under_load_takes_its_processes_and_its_registration_with_it(
    consul: Consul, wrapped: Wrapped
) -> None:
    eventually(lambda: consul.catalogued(SERVICE))
    tree = wrapped.tree()
    clients = Load(wrapped)
    try:
        eventually(lambda: clients.answered > 50 or clients.lost)
        os.kill(wrapped.stator.lines("program started")[0]["pid"], signal.SIGKILL)
        assert wrapped.stator.ended() == 128 + signal.SIGKILL
    finally:
        clients.leave()
    assert wrapped.stator.lines("program ended", signal="SIGKILL", level="warning")
    assert consul.services() == {}
    eventually(lambda: not any(map(is_running, tree)))


@pytest.mark.parametrize("wrapped", ["redis"], indirect=True)
def test_one_whose_stator_is_killed_under_load_ends_too_and_turns_critical(consul: Consul, wrapped: Wrapped) -> None:
    eventually(lambda: consul.checks()[f"service:{SERVICE}"]["Status"] == "passing")
    tree = wrapped.tree()
    clients = Load(wrapped)
    try:
        eventually(lambda: clients.answered > 50 or clients.lost)
        wrapped.stator.send(signal.SIGKILL)
        eventually(lambda: not any(map(is_running, tree)))
    finally:
        clients.leave()
    eventually(lambda: consul.checks()[f"service:{SERVICE}"]["Status"] == "critical")


def is_running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def assert_is_scraped(prometheus: Prometheus, wrapped: Wrapped) -> None:
    """Asserts that Prometheus finds the service at its own port, and scrapes it at ours."""
    up_query = 'up{job="api_services"} == 1'
    (up,) = eventually(lambda: prometheus.query(up_query), within=60)
    assert (up.labels["service"], up.labels["instance"]) == ("stator", SERVICE)
    (target,) = [each for each in prometheus.targets() if each["labels"]["job"] == "api_services"]
    assert target["scrapeUrl"] == f"http://127.0.0.1:{wrapped.stator.port}/metrics"
    assert target["discoveredLabels"]["__address__"] == f"127.0.0.1:{wrapped.port}"
    (info,) = prometheus.query("stator_child_info")
    assert info.labels["command"] == wrapped.name
    (processes,) = prometheus.query("stator_child_processes")
    assert processes.value >= wrapped.child.processes
    (resident,) = prometheus.query("process_resident_memory_bytes{job='api_services'}")
    assert resident.value > 1_000_000
    (check,) = prometheus.query("stator_check_up")
    assert (check.labels["check"], check.value) == ("child", 1)
