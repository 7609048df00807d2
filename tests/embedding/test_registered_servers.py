"""Servers that start, reload, replace workers, stop and are killed, as seen by those who ask Consul for the service."""

import json
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.embedding.applications import FLASK, Command, gunicorn, uvicorn
from tests.embedding.conftest import Served
from tests.embedding.registering import (
    GUNICORN_CONF,
    LIFESPAN,
    PLAIN_FLASK,
    SLOW_FASTAPI,
    SLOW_FLASK,
    Observer,
    Shops,
    keepers,
    leaves_nothing,
)
from tests.program import Answer, eventually

STARTS = 3
UVICORN_WORKER = "-k=uvicorn_worker.UvicornWorker"
AS_ASGI = "\n\nfrom asgiref.wsgi import WsgiToAsgi\n\napp = WsgiToAsgi(app)\n"


class Request(threading.Thread):
    """A request that is answered after a while."""

    def __init__(self, served: Served, path: str) -> None:
        super().__init__()
        self._served, self._path = served, path
        self.answer: Answer | None = None
        self.start()

    def run(self) -> None:
        self.answer = self._served.get(self._path)


def replaces_workers(served: Served, times: int) -> None:
    """Sends requests until gunicorn has started workers that often."""
    began = served.errors.count("Booting worker")

    def is_done() -> bool:
        with suppress(OSError):  # while all of them start
            assert served.get("/internal/monitor").status == 200
        return served.errors.count("Booting worker") >= began + times

    eventually(is_done, within=60)


@pytest.mark.parametrize("registrar", ["consul", "file"])
@pytest.mark.parametrize("worker", ["-k=gthread", "-k=sync", UVICORN_WORKER])
def test_gunicorn_answers_every_request_from_the_start(shop: Shops, worker: str, registrar: str) -> None:
    code = PLAIN_FLASK + (AS_ASGI if worker == UVICORN_WORKER else "")
    for nth in range(STARTS):
        preload = ["--preload"] if nth % 2 else []
        env = {"STTR_ROSTER_REGISTRAR": registrar, "STTR_FILE_PATH": "targets.json"}
        served = shop.start(code, gunicorn(worker, "--workers=2", *preload), GUNICORN_CONF, env=env)

        def is_registered(file: Path = served.folder / "targets.json") -> bool:
            if registrar == "consul":
                return shop.registered() is not None
            return file.exists() and bool(json.loads(file.read_text()))

        answers = [served.get("/") for _ in range(20)]
        eventually(is_registered)
        answers += [served.get("/") for _ in range(20)]
        assert {(each.status, each.body) for each in answers} == {(200, b"home")}
        assert served.stop() == 0
        assert not is_registered()
        leaves_nothing(served)


@pytest.mark.parametrize(
    ("code", "args", "files"),
    [
        (PLAIN_FLASK, ("-k=gthread", "--workers=2"), GUNICORN_CONF),
        (LIFESPAN, (UVICORN_WORKER, "--workers=1"), {}),
        (LIFESPAN, (UVICORN_WORKER, "--workers=2"), {}),
    ],
    ids=["gunicorn.conf.py", "lifespan, one worker", "lifespan, two workers"],
)
def test_a_reload_changes_nothing_and_the_stop_after_it_unregisters(
    shop: Shops, code: str, args: tuple[str, ...], files: dict[str, str]
) -> None:
    served = shop.start(code, gunicorn(*args), files)
    eventually(shop.registered)
    with Observer(shop.consul) as observer:
        for _ in range(2):
            before = psutil.Process(served.pid).children()
            served.send(signal.SIGHUP)
            psutil.wait_procs(before, 30)
            eventually(lambda: served.monitor().status == 200)
        time.sleep(3)  # longer than the keeper waits for a successor
        assert observer.absences == []
        assert served.stop() == 0
        if files:
            assert shop.registered() is None
        eventually(lambda: not observer.is_registered)
    leaves_nothing(served)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    ("code", "worker", "files"),
    [(PLAIN_FLASK, "-k=gthread", GUNICORN_CONF), (LIFESPAN, UVICORN_WORKER, {})],
    ids=["gunicorn.conf.py", "lifespan"],
)
def test_replaced_workers_change_nothing(
    shop: Shops, code: str, worker: str, files: dict[str, str], workers: int
) -> None:
    served = shop.start(code, gunicorn(worker, f"--workers={workers}", "--max-requests=5"), files)
    eventually(shop.registered)
    with Observer(shop.consul) as observer:
        replaces_workers(served, 3 * workers)
        assert observer.absences == []
        served.stop()
        eventually(lambda: not observer.is_registered)
    leaves_nothing(served)


@pytest.mark.parametrize(
    ("code", "command", "files"),
    [
        (FLASK + SLOW_FLASK, gunicorn("-k=gthread", "--threads=4", "--workers=2"), GUNICORN_CONF),
        (LIFESPAN + SLOW_FASTAPI, uvicorn(), {}),
    ],
    ids=["gunicorn.conf.py", "lifespan, uvicorn"],
)
def test_a_stop_unregisters_first_then_drains_and_then_stops(
    shop: Shops, code: str, command: Command, files: dict[str, str]
) -> None:
    served = shop.start(code, command, files, env={"STTR_ROSTER_DRAIN": "1500ms"})
    eventually(shop.registered)
    with Observer(shop.consul) as observer:
        slow = Request(served, "/slow")
        time.sleep(0.5)
        served.send(signal.SIGTERM)
        sent = time.monotonic()
        eventually(lambda: not observer.is_registered)
        assert observer.changes[-1][0] - sent < 1
        eventually(lambda: served.monitor().status == 503, within=0.2)
        while time.monotonic() < observer.changes[-1][0] + 1.2:
            assert (served.monitor().status, served.monitor().body) == (503, b'{"status":"draining"}')
            assert served.get("/internal/monitor/ready").status == 503
            assert served.get("/internal/monitor/live").status == 200
            time.sleep(0.05)
        served.ended()
        slow.join()
    assert slow.answer is not None
    assert (slow.answer.status, slow.answer.body.strip(b'"')) == (200, b"done")
    leaves_nothing(served)


def test_a_signal_to_all_processes_unregisters_first_and_drains(shop: Shops) -> None:
    """As systemd sends it, with KillMode=control-group; here the keeper gets it first."""
    command = gunicorn("-k=gthread", "--threads=4", "--workers=2")
    served = shop.start(FLASK, command, GUNICORN_CONF, env={"STTR_ROSTER_DRAIN": "1500ms"})
    eventually(shop.registered)
    for each in keepers(served.folder):
        each.terminate()
    eventually(lambda: not shop.registered())
    eventually(lambda: served.monitor().status == 503)  # Consul may be known to have dropped it before we have read so
    served.send(signal.SIGTERM)
    sent = time.monotonic()
    while time.monotonic() < sent + 1.2:
        assert (served.monitor().status, served.monitor().body) == (503, b'{"status":"draining"}')
        time.sleep(0.05)
    assert served.ended() == 0
    assert "failed to unregister" not in served.errors
    leaves_nothing(served)


def roster_metrics(served: Served) -> dict[str, float]:
    """The metrics of its registration in one scrape."""
    families = text_string_to_metric_families(served.metrics())
    samples = (each for family in families for each in family.samples)
    return {each.name: each.value for each in samples if each.name.startswith("stator_roster_") and not each.labels}


@pytest.mark.parametrize(
    ("code", "command", "files"),
    [
        (FLASK, gunicorn("-k=gthread", "--workers=2"), GUNICORN_CONF),
        (FLASK, gunicorn("-k=sync", "--workers=2", "--preload"), GUNICORN_CONF),
        (LIFESPAN, uvicorn("--workers=2"), {}),
        (LIFESPAN, uvicorn(), {}),
    ],
    ids=["gunicorn.conf.py", "gunicorn.conf.py, preloaded", "lifespan, workers", "lifespan"],
)
def test_each_worker_exposes_the_state_of_the_registration(
    shop: Shops, code: str, command: Command, files: dict[str, str]
) -> None:
    before = time.time()
    served = shop.start(code, command, files)
    eventually(lambda: roster_metrics(served).get("stator_roster_registered") == 1)
    for _ in range(20):
        metrics = roster_metrics(served)
        assert metrics["stator_roster_registered"] == metrics["stator_roster_registrations_total"] == 1
        assert before < metrics["stator_roster_last_confirmed_timestamp_seconds"] < time.time()
    (keeper,) = keepers(served.folder)
    keeper.kill()
    keeper.wait(10)
    assert roster_metrics(served) == {}


@pytest.mark.parametrize(
    "command",
    [uvicorn("--workers=2"), gunicorn(UVICORN_WORKER, "--workers=2")],
    ids=["uvicorn with workers", "gunicorn"],
)
def test_with_the_lifespan_in_workers_it_is_unregistered_a_moment_after_the_end(shop: Shops, command: Command) -> None:
    served = shop.start(LIFESPAN, command)
    eventually(lambda: served.errors.count("Application startup complete") == 2)
    eventually(shop.registered)
    served.stop()
    eventually(lambda: not shop.registered(), within=2)
    leaves_nothing(served)


@pytest.mark.parametrize(
    ("code", "command", "files"),
    [
        (PLAIN_FLASK, gunicorn("-k=gthread", "--workers=2"), GUNICORN_CONF),
        (LIFESPAN, uvicorn(), {}),
    ],
    ids=["gunicorn.conf.py", "lifespan, uvicorn"],
)
def test_it_is_unregistered_when_the_main_process_is_killed(
    shop: Shops, code: str, command: Command, files: dict[str, str]
) -> None:
    served = shop.start(code, command, files)
    eventually(shop.registered)
    served.send(signal.SIGKILL)
    eventually(lambda: not shop.registered(), within=5)
    leaves_nothing(served)


def test_it_stays_registered_while_workers_serve_that_outlive_the_main_process(shop: Shops) -> None:
    served = shop.start(LIFESPAN, gunicorn(UVICORN_WORKER, "--workers=2"))
    eventually(shop.registered)
    workers = psutil.Process(served.pid).children()
    served.send(signal.SIGKILL)
    with Observer(shop.consul) as observer:
        time.sleep(3)
        assert served.monitor().status == 200
        assert observer.absences == []
        for each in workers:
            each.kill()
        eventually(lambda: not observer.is_registered, within=2)
    leaves_nothing(served)


def test_a_keeper_that_was_killed_is_replaced_when_the_next_worker_starts(shop: Shops) -> None:
    served = shop.start(LIFESPAN, gunicorn(UVICORN_WORKER, "--workers=1"))
    eventually(shop.registered)
    (keeper,) = keepers(served.folder)
    keeper.kill()
    keeper.wait(10)
    assert shop.registered()
    served.send(signal.SIGHUP)
    eventually(lambda: keepers(served.folder))
    eventually(lambda: '"registered"' in served.errors)
    served.stop()
    eventually(lambda: not shop.registered())
    leaves_nothing(served)


def test_without_its_keeper_a_server_stays_registered_and_says_so(shop: Shops) -> None:
    code = f"import logging\n\nlogging.basicConfig()\n{LIFESPAN}"
    served = shop.start(code, uvicorn())
    eventually(shop.registered)
    for each in keepers(served.folder):
        each.kill()
        each.wait(10)
    served.stop()
    assert "failed to unregister" in served.errors
    assert "the keeper process is gone" in served.errors
    assert shop.registered()
    leaves_nothing(served)


AS_PROCESS_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def in_a_container(command: Command) -> Command:
    """A command that is process 1 of a PID namespace."""
    if subprocess.run([*AS_PROCESS_1, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no PID namespaces can be had here")
    return lambda port: [*AS_PROCESS_1, *command(port)]


@pytest.mark.parametrize(
    ("code", "command", "files"),
    [
        (PLAIN_FLASK, gunicorn("-k=gthread", "--workers=2"), GUNICORN_CONF),
        (LIFESPAN, uvicorn(), {}),
    ],
    ids=["gunicorn.conf.py", "lifespan, uvicorn"],
)
def test_process_1_of_a_container_unregisters_before_it_ends(
    shop: Shops, code: str, command: Command, files: dict[str, str]
) -> None:
    served = shop.start(code, in_a_container(command), files)
    eventually(shop.registered)
    (server,) = psutil.Process(served.pid).children()
    server.send_signal(signal.SIGTERM)
    served.ended()
    assert not shop.registered()
    leaves_nothing(served)
