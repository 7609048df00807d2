"""A scrape reports all workers of a server, whichever of them answers."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.embedding.applications import (
    FALCON_ASGI,
    FALCON_WSGI,
    FASTAPI,
    FLASK,
    Command,
    gunicorn,
    is_installed,
    uvicorn,
    uwsgi,
    wsgiref,
)
from tests.embedding.conftest import ServeApp, Served
from tests.program import cannot, eventually

# Stator's metrics about itself are still each worker's own.
COUNTED = ("pyrt_", "process_")
Key = tuple[str, tuple[tuple[str, str], ...]]


class Case(NamedTuple):
    """An application under a server of several workers.

    Attributes:
        loaded: What each worker writes when it has loaded the application, if the server must not be stopped before.
    """

    code: str
    command: Command
    where: str
    workers: int
    loaded: str = ""


CASES = {
    "gunicorn sync": Case(FLASK, gunicorn("-k=sync", "--workers=4"), "/internal", 4),
    "gunicorn gthread, preloaded": Case(FALCON_WSGI, gunicorn("-k=gthread", "--workers=4", "--preload"), "", 4),
    "gunicorn asgi, preloaded": Case(FASTAPI, gunicorn("-k=asgi", "--workers=4", "--preload"), "/internal", 4),
    "uwsgi, an interpreter each": Case(
        # Python code that is stopped by uWSGI while it loads ends with KeyboardInterrupt, and a traceback.
        FLASK,
        uwsgi("--processes=3", "--lazy-apps"),
        "/internal",
        3,
        loaded="WSGI app 0 (mountpoint='') ready",
    ),
    "uwsgi, at-fork hooks": Case(FLASK, uwsgi("--processes=3", "--py-call-osafterfork"), "/internal", 3),
    "uvicorn": Case(FALCON_ASGI, uvicorn("--workers=2"), "", 2),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    case = CASES[request.param]
    if not is_installed(case.command):
        cannot("uwsgi is not installed: make test installs it")
    return case


@pytest.fixture
def served(case: Case, serve_app: ServeApp) -> Iterator[Served]:
    code = case.code.replace('"runtime"', '"runtime", "process"')
    running = serve_app(code, case.command, where=case.where)
    eventually(lambda: len(workers(running)) == case.workers, within=20)
    if case.loaded:
        eventually(lambda: running.errors.count(case.loaded) >= case.workers)
    yield running
    running.kill()


def samples(served: Served) -> dict[Key, float]:
    """Values by name and labels, of one scrape."""
    families = text_string_to_metric_families(served.metrics())
    every = (each for family in families for each in family.samples)
    return {(each.name, tuple(sorted(each.labels.items()))): each.value for each in every}


def of_role(found: Mapping[Key, float], role: str) -> dict[int, str]:
    """The workers' numbers, in their labels, of processes with a role, by process id."""
    every = [dict(labels) for name, labels in found if name == "pyrt_start_time_seconds"]
    return {int(each["process_id"]): each.get("worker", "") for each in every if each.get("role", "") == role}


def workers(served: Served) -> dict[int, str]:
    return of_role(samples(served), "worker")


def children(served: Served) -> set[int]:
    """Its children that serve."""
    return {each.pid for each in psutil.Process(served.pid).children() if serves_requests(each)}


def serves_requests(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return False


def test_each_worker_reports_all_and_no_counter_goes_down(case: Case, served: Served) -> None:
    before: dict[Key, float] = {}
    for _ in range(50):
        found = samples(served)
        assert of_role(found, "worker").keys() == children(served)
        assert sorted(of_role(found, "worker").values()) == [str(nth) for nth in range(1, case.workers + 1)]
        assert of_role(found, "arbiter") == {served.pid: ""}
        counters = {key: value for key, value in before.items() if key[0].startswith(COUNTED) and "_total" in key[0]}
        assert {key: (value, found[key]) for key, value in counters.items() if found[key] < value} == {}
        before = found


def test_a_killed_worker_is_replaced_by_one_with_its_number(served: Served) -> None:
    before = workers(served)
    killed = min(before)
    cpu = ("process_cpu_seconds_total", ())
    spent = samples(served)[cpu]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in children(served) and len(children(served)) == len(before))
    eventually(lambda: workers(served).keys() == children(served), within=20)
    after = workers(served)
    assert sorted(after.values()) == sorted(before.values())
    assert {pid: after[pid] for pid in before.keys() - {killed}} == {
        pid: number for pid, number in before.items() if pid != killed
    }
    assert samples(served)[cpu] >= spent


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_file_is_left(served: Served, how: signal.Signals) -> None:
    for each in (psutil.Process(served.pid), *psutil.Process(served.pid).children()):
        each.send_signal(how)
    served.ended()
    assert not list(served.folder.rglob("stator-*"))
    assert not list(Path("/dev/shm").glob("stator-*"))
    assert "Traceback" not in served.errors


def test_a_server_without_workers_reports_itself_alone(serve_app: ServeApp) -> None:
    for code, command, where in ((FALCON_WSGI, wsgiref, ""), (FASTAPI, uvicorn(), "/internal")):
        served = serve_app(code, command, where=where)
        assert of_role(samples(served), "") == {served.pid: ""}
        assert of_role(samples(served), "worker") == of_role(samples(served), "arbiter") == {}


def test_workers_that_uwsgi_forks_without_hooks_say_how_to_be_found(serve_app: ServeApp) -> None:
    command = uwsgi("--processes=2")
    if not is_installed(command):
        cannot("uwsgi is not installed: make test installs it")
    served = serve_app(FLASK, command, where="/internal")
    asked = {pid for _ in range(20) for pid in of_role(samples(served), "")}
    assert asked <= children(served)
    lines = [line for line in served.errors.splitlines() if "metrics are of this process alone" in line]
    assert len(lines) == len(asked)
    assert "start uWSGI with --py-call-osafterfork or --lazy-apps" in lines[0]


def test_a_successor_that_gunicorn_starts_is_no_worker(serve_app: ServeApp) -> None:
    # As a script: started with -m, gunicorn can't start itself again.
    script = str(Path(sys.executable).with_name("gunicorn"))
    command = gunicorn("--workers=2", "--preload")
    served = serve_app(FALCON_WSGI, lambda port: [sys.executable, script, *command(port)[3:]])
    before = set(eventually(lambda: len(found := workers(served)) == 2 and found) or ())
    served.send(signal.SIGUSR2)
    (successor,) = eventually(lambda: children(served) - before)
    eventually(lambda: len(psutil.Process(successor).children()) == 2)
    own = {each.pid for each in psutil.Process(successor).children()}
    for _ in range(20):
        assert set(workers(served)) in (before, own)
    eventually(lambda: set(workers(served)) == before)
    eventually(lambda: set(workers(served)) == own)
