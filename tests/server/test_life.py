"""How the program starts and ends: in order, soon, with the right exit status, and with nothing left of it."""

import os
import re
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit
from signal import SIGALRM, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGWINCH

import psutil
import pytest

from stator.control.numbers import FAULT_SIGNAL
from stator.server.signals import CONTROL_SIGNALS, IGNORED_SIGNALS
from stator.server.versions import SUPPORTED
from tests.fakes import Agent
from tests.program import MODULE, ROOT, Answer, Program, eventually, stand_still
from tests.server.conftest import Starts

# Seconds in which a program with nothing to wait for must have ended, on a busy machine.
SOON = 3.0
# Seconds between two signals of a person; what comes quicker is an echo.
A_MOMENT = 0.2
# A collector that takes as long as nobody writes the file "go".
SLOW = {
    "slow": """
import pathlib, time
from stator.points import PointsAt
class Slow:
    def collect(self, now):
        while not pathlib.Path("go").exists():
            time.sleep(0.005)
        return PointsAt("slow", now)
"""
}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


def discovery(agent: Agent) -> Mapping[str, str]:
    """Variables with which the program registers."""
    return {"STTR_CLIENT_BASEURI": agent.uri, "STTR_ROSTER_SERVICE_ID": "1"}


def ends(program: Program, *signals: signal.Signals, within: float = SOON) -> int:
    """Sends signals and waits for the end, after which nothing may be left; gives the exit status."""
    for number in signals:
        program.send(number)
    status = program.ended(within)
    eventually(lambda: not program.processes(), within=2)
    assert program.errors == ""
    return status


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGQUIT])
def test_one_signal_ends_it_well(starts: Starts, number: signal.Signals) -> None:
    program = starts()
    program.wait_for("ready")
    assert ends(program, number) == 0
    assert program.lines("shutting down", signal=number.name)
    assert program.lines()[-1]["msg"] == "stopped"
    assert [line for line in program.lines() if line["level"] not in ("debug", "info")] == []


def test_a_second_signal_ends_it_at_once(starts: Starts) -> None:
    program = starts({"STTR_ROSTER_DRAIN": "1m"})
    program.wait_for("ready")
    program.send(SIGINT)
    program.wait_for("shutting down")
    time.sleep(A_MOMENT)
    assert ends(program, SIGINT) == 130
    assert program.lines("stopping at once", signal="SIGINT")


def test_a_start_that_waits_for_a_secret_can_be_stopped(starts: Starts, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    program = starts({"STTR_CONSUL_TOKEN_FILE": str(tmp_path / "token")})
    eventually(lambda: len(program.processes()) == 2)
    assert program.stop() == 128 + SIGTERM
    assert program.errors == "stator: stopped by SIGTERM while it was starting\n"
    eventually(lambda: not program.processes())


@pytest.mark.parametrize("where", ["", "class Hangs:\n    def __init__(self):\n        "], ids=["imported", "made"])
def test_a_plugin_that_hangs_at_the_start_can_be_stopped(starts: Starts, where: str) -> None:
    hang = "import pathlib, time; pathlib.Path('here').touch(); time.sleep(600)\n"
    modules = {"hangs": f"{where}{hang}    def collect(self, now): pass\n" if where else hang}
    program = starts({"STTR_COLLECTORS": "hangs:Hangs"}, modules=modules)
    eventually((program.stdout.parent / "here").exists)
    program.send(SIGINT)
    assert program.ended() == 130
    assert program.errors == "stator: stopped by SIGINT while it was starting\n"


def test_two_signals_at_once_are_one(starts: Starts) -> None:
    program = starts()
    program.wait_for("ready")
    assert ends(program, SIGTERM, SIGINT) == 0


def test_a_second_signal_does_not_wait_for_a_request(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "slow:Slow"}, modules=SLOW)
    scrape = Asking(program, "/metrics")
    program.send(SIGTERM)
    program.wait_for("shutting down")
    time.sleep(A_MOMENT)
    assert ends(program, SIGTERM) == 143
    assert scrape.answer() is None


def test_an_idle_connection_does_not_delay_the_end(starts: Starts) -> None:
    program = starts()
    connection = program.connect()
    connection.request("GET", "/monitor/live")
    connection.getresponse().read()
    with program.dial():
        assert ends(program, SIGTERM) == 0
    connection.close()


class Asking(threading.Thread):
    """Asks for a path in the background; made as soon as the program has the request."""

    def __init__(self, program: Program, path: str) -> None:
        super().__init__()
        self._program, self._path = program, path
        self._answer: Answer | None = None
        self.start()
        program.wait_for("received request", path=path)

    def run(self) -> None:
        try:
            self._answer = self._program.get(self._path)
        except OSError:
            self._answer = None

    def answer(self) -> Answer | None:
        """What came, or None where the connection was cut."""
        self.join(10)
        return self._answer


def test_a_request_that_was_begun_is_answered(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "slow:Slow"}, modules=SLOW)
    scrape = Asking(program, "/metrics")
    program.send(SIGTERM)
    program.wait_for("Handling signal: term")
    eventually(lambda: not listens(program.port))
    (program.stdout.parent / "go").touch()
    assert ends(program) == 0
    answer = scrape.answer()
    assert answer is not None
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_request_that_never_ends_is_cut_off_after_the_timeout(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "slow:Slow", "STTR_SERVER_TIMEOUT": "1s"}, modules=SLOW)
    scrape = Asking(program, "/metrics")
    assert ends(program, SIGTERM, within=1 + SOON) == 0
    assert scrape.answer() is None


@contextmanager
def clients(program: Program) -> Iterator[list[str]]:
    """Four clients that ask again and again, each time on a new connection; gives what they got."""
    outcomes: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                connection = program.dial()
            except ConnectionRefusedError:
                return
            with connection:
                connection.sendall(b"GET /monitor/live HTTP/1.1\r\nHost: stator\r\n\r\n")
                outcomes.append(connection.recv(1000).decode()[:15])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    program.wait_for("ready")
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("workers", [1, 3])
def test_every_client_that_connected_before_the_end_is_answered(starts: Starts, workers: int) -> None:
    program = starts({"STTR_SERVER_WORKERS": str(workers)})
    with clients(program) as outcomes:
        eventually(lambda: len(outcomes) > 50)
        assert ends(program, SIGTERM) == 0
    assert set(outcomes) == {"HTTP/1.1 200 OK"}


def test_no_request_is_lost_while_workers_come_and_go(starts: Starts) -> None:
    program = starts({"STTR_SERVER_WORKERS": "2"})
    with clients(program) as outcomes:
        for number in (SIGTTIN, SIGTTIN, SIGTTOU, SIGHUP, SIGTTOU, SIGHUP, SIGTTIN, SIGTTOU) * 2:
            program.arbiter.send_signal(number)
            time.sleep(A_MOMENT)
        program.workers[0].send_signal(SIGTERM)
        count = len(outcomes)
        eventually(lambda: len(outcomes) > count + 50)
        eventually(lambda: len(program.workers) == 2)
        assert ends(program, SIGTERM) == 0
    assert set(outcomes) == {"HTTP/1.1 200 OK"}
    assert [line for line in program.lines() if line["level"] not in ("debug", "info")] == []


def test_it_unregisters_and_drains_before_it_stops_answering(starts: Starts, agent: Agent) -> None:
    program = starts({**discovery(agent), "STTR_ROSTER_DRAIN": "300ms"})
    program.wait_for("registered")
    assert len(agent.asked("/v1/agent/service/register")) == 1
    assert program.get("/monitor/ready").status == program.get("/monitor/live").status == 200
    program.send(SIGTERM)
    eventually(lambda: agent.asked("/v1/agent/service/deregister/stator-1"))
    drains = (503, b'{"status":"draining"}')
    eventually(lambda: (program.get("/monitor").status, program.get("/monitor").body) == drains, within=0.2)
    assert program.get("/monitor/ready").status == 503
    assert program.get("/monitor/live").status == program.get("/metrics").status == 200
    assert ends(program) == 0
    (left,) = program.lines("unregistered")
    (ended,) = program.lines("Handling signal: term")
    assert left["ts"] < ended["ts"]


def test_it_registers_only_when_it_answers(starts: Starts, agent: Agent) -> None:
    program = starts({**discovery(agent), "STTR_LOGGER_LEVEL": "debug"})
    program.wait_for("registered")
    messages = [line["msg"] for line in program.lines()]
    assert messages.index("sending response") < messages.index("ready") < messages.index("sending request")


@pytest.mark.parametrize("moment", ["starting up", "Starting gunicorn", "Booting worker"])
def test_a_signal_during_the_start_ends_it_well(starts: Starts, agent: Agent, moment: str) -> None:
    program = starts({**discovery(agent), "STTR_SERVER_WORKERS": "4"})
    eventually(lambda: moment in program.output)
    assert ends(program, SIGTERM) == 0
    asked = [request.path for request in agent.requests]
    changes = [path for path in asked if "register" in path]
    # The signal may come when it is registered, and looks whether it still is.
    assert changes in ([], ["/v1/agent/service/register", "/v1/agent/service/deregister/stator-1"])
    assert asked[-1:] == changes[-1:]


def test_signals_that_its_parent_had_ignored_are_ignored(starts: Starts) -> None:
    ignoring = "for each in (signal.SIGHUP, signal.SIGCHLD): signal.signal(each, signal.SIG_IGN)"
    then = f"os.execv({sys.executable!r}, {MODULE!r})"
    program = starts(command=(sys.executable, "-c", f"import os, signal\n{ignoring}\n{then}"))
    program.wait_for("ready")
    program.send(SIGHUP)
    program.arbiter.kill()
    assert ends(program) == 1
    assert not program.lines("shutting down")


def test_signals_that_ask_for_nothing_end_no_process_and_are_logged(starts: Starts) -> None:
    program = starts()
    program.wait_for("ready")
    processes = [psutil.Process(program.pid), program.arbiter, *program.workers]
    for number in sorted({*IGNORED_SIGNALS, SIGPIPE, SIGWINCH} - {*CONTROL_SIGNALS, FAULT_SIGNAL}):
        for each in processes:
            each.send_signal(number)
            assert program.get("/monitor").status == 200
    names = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGRTMIN", "SIGRTMIN+1")
    for name in names:
        program.wait_for(f"ignored signal {name}", level="warning")
    assert len(program.lines("ignored signal SIGALRM")) == len(processes)
    assert [psutil.Process(program.pid), program.arbiter, *program.workers] == processes
    assert ends(program, SIGTERM) == 0


def test_a_program_that_a_plugin_starts_gets_its_signals(starts: Starts) -> None:
    child = """
import signal, subprocess, sys
from stator.points import Point
class Child:
    def collect(self, now):
        ended = subprocess.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGUSR1)"])
        yield Point("ended", "How it ended", ended.returncode)
"""
    program = starts({"STTR_COLLECTORS": "child:Child"}, modules={"child": child})
    assert f"ended {-SIGUSR1} " in program.get("/metrics", {"Accept": "text/plain"}).body.decode()


def test_a_plugin_may_handle_a_signal_itself(starts: Starts) -> None:
    dumps = """
import faulthandler, signal
faulthandler.register(signal.SIGALRM)
class Dumps:
    def collect(self, now):
        yield from ()
"""
    program = starts({"STTR_COLLECTORS": "dumps:Dumps"}, modules={"dumps": dumps})
    program.wait_for("ready")
    program.send(SIGALRM)
    eventually(lambda: "most recent call first" in program.errors)
    assert not program.lines("ignored signal SIGALRM")


def test_a_collector_with_a_thread_does_not_change_how_it_ends(starts: Starts, agent: Agent) -> None:
    threaded = """
import threading, time
from stator.points import PointsAt
class Threaded:
    def __init__(self):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    def collect(self, now):
        return PointsAt("threaded", now)
"""
    program = starts({**discovery(agent), "STTR_COLLECTORS": "threaded:Threaded"}, modules={"threaded": threaded})
    program.wait_for("registered")
    assert ends(program, SIGTERM) == 0
    assert agent.asked("/v1/agent/service/deregister/stator-1")


def test_a_worker_that_is_killed_is_replaced(starts: Starts) -> None:
    program = starts()
    program.wait_for("ready")
    (worker,) = program.workers
    worker.kill()
    (replaced,) = eventually(lambda: [each for each in program.workers if each != worker])
    assert program.get("/monitor").status == 200
    assert psutil.pid_exists(replaced.pid)
    assert "SIGKILL" in program.output
    assert ends(program, SIGTERM) == 0


@pytest.mark.parametrize("number", [SIGKILL, SIGTERM])
def test_without_its_server_it_unregisters_and_fails(starts: Starts, agent: Agent, number: signal.Signals) -> None:
    program = starts({**discovery(agent), "STTR_SERVER_WORKERS": "2", "STTR_ROSTER_DRAIN": "1m"})
    program.wait_for("registered")
    program.arbiter.send_signal(number)
    assert ends(program) == 1
    assert program.lines("http service ended by itself", level="error")
    assert agent.asked("/v1/agent/service/deregister/stator-1")


@pytest.mark.parametrize("busy", [False, True])
def test_nothing_outlives_a_main_process_that_is_killed(starts: Starts, busy: bool) -> None:
    program = starts({"STTR_SERVER_WORKERS": "2", "STTR_COLLECTORS": "slow:Slow"}, modules=SLOW)
    program.wait_for("ready")
    scrape = Asking(program, "/metrics") if busy else None
    program.send(SIGKILL)
    assert program.ended() == -SIGKILL
    eventually(lambda: not program.processes(), within=2)
    if scrape:
        assert scrape.answer() is None


def test_workers_end_without_main_process_and_arbiter(starts: Starts) -> None:
    program = starts({"STTR_SERVER_WORKERS": "2"})
    eventually(lambda: program.port and len(program.workers) == 2)
    arbiter = program.arbiter
    stand_still(program.pid)
    arbiter.kill()
    program.send(SIGKILL)
    assert program.ended() == -SIGKILL
    eventually(lambda: not program.processes(), within=2)


@pytest.mark.parametrize("package", ["gunicorn", "httptools", "uvicorn", "uvicorn_worker"])
def test_a_version_that_is_not_supported_is_reported_in_one_line(starts: Starts, package: str) -> None:
    old = f"import {package}, runpy\n{package}.__version__ = '0.1'\nrunpy.run_module('stator', run_name='__main__')"
    program = starts(command=(sys.executable, "-c", old))
    assert ends(program) == 1
    (failure,) = program.lines(level="error")
    assert failure["msg"] == "can't start"
    assert re.fullmatch(rf"{package} 0\.1 is not supported: versions from \S+ on and before \S+ are", failure["reason"])


def test_a_package_that_is_missing_is_reported_in_one_line(starts: Starts) -> None:
    program = starts(modules={"httptools": "raise ImportError('no such file')"})
    assert ends(program) == 1
    (failure,) = program.lines(level="error")
    assert failure["reason"] == "httptools can't be imported: no such file"


def test_supported_versions_are_those_that_the_package_declares() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ranges = [f"{name.replace('_', '-')}>={low},<{limit}" for name, (low, limit) in SUPPORTED.items()]
    assert set(ranges) <= set(declared)


def test_its_processes_may_open_as_many_files_as_the_system_allows(starts: Starts) -> None:
    program = starts(command=("sh", "-c", 'ulimit -Sn 200; exec "$0" "$@"', *MODULE))
    program.wait_for("ready")
    (worker,) = program.workers
    soft, hard = prlimit(worker.pid, RLIMIT_NOFILE)
    assert soft == hard > 200


def test_a_port_in_use_is_reported_in_one_line_and_nothing_is_started(starts: Starts, agent: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = starts({**discovery(agent), "STTR_SERVER_PORT": str(port)})
        assert ends(program) == 1
    (failure,) = program.lines(level="error")
    assert failure["reason"] == f"can't listen on 127.0.0.1:{port}: Address already in use"
    assert agent.requests == []


def test_of_two_that_want_the_same_port_one_gets_it(starts: Starts) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        env = {"STTR_SERVER_PORT": str(probe.getsockname()[1])}
    both = [starts(env), starts(env)]
    (loser,) = eventually(lambda: [each for each in both if each.lines(level="error")])
    (winner,) = [each for each in both if each is not loser]
    assert ends(loser) == 1
    assert "Address already in use" in loser.lines(level="error")[0]["reason"]
    winner.wait_for("ready")
    assert ends(winner, SIGTERM) == 0


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "a..b"])
def test_a_host_that_is_not_ours_is_reported_in_one_line(starts: Starts, host: str) -> None:
    program = starts({"STTR_SERVER_HOST": host, "STTR_SERVER_PORT": "8087"})
    assert ends(program, within=20) == 1
    (failure,) = program.lines(level="error")
    assert failure["reason"].startswith(f"can't listen on {host}:8087: ")
