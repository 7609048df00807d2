"""A keeper registers a service once it answers, and unregisters it when nobody serves any longer."""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from stator.config import Config
from stator.embedding.keeper import LISTENING_WAIT, READY_LATE, SUCCESSOR_WAIT, Keeper, Server
from stator.embedding.membership import Membership
from stator.embedding.registration import KeeperTask
from stator.embedding.state import StateFile, state_path
from stator.roster.file_sd import FileConfig
from stator.roster.metrics import RosterMetrics
from stator.roster.roster import Roster, RosterConfig
from stator.roster.service import Service, ServiceConfig
from tests.captured_log import CapturedLog
from tests.program import ROOT, eventually

SERVICE = Service("shop-1", "shop", (), (), "127.0.0.1", 8000, "http://127.0.0.1:8000/monitor")
TASK = b"task"


class FakeServer(Server):
    """A server of one process as its keeper sees it, on a clock of its own.

    Attributes:
        process: The process's membership.
        state: What it reads of the keeper.
        now: Seconds that have passed.
        signal_at: When the keeper is asked to stop.
        unregistered_at: When it said that the service is unregistered.
    """

    def __init__(self, folder: Path, story: CapturedLog) -> None:
        self.targets = folder / "targets.json"
        self._lock, self._story = folder / "lock", story
        self.state = StateFile(folder / "state")
        self.process = Membership(self._lock)
        self.process.join()
        self.process.request(TASK)
        self.now = 0.0
        self.unregistered_at = 1e9
        self.signal_at = self.ends_at = self.serves_at = self.closes_at = 1e9
        self._plan: list[tuple[float, Callable[[], object]]] = []

    def is_serving(self) -> bool:
        return self.now >= self.serves_at

    def is_listening(self) -> bool:
        return self.now < self.closes_at

    def has_ended(self) -> bool:
        return self.now >= self.ends_at

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Plans what a process of the server does, in the order of calls."""
        self._plan.append((seconds, act))

    def leave(self) -> None:
        """The process ends."""
        self.process.release()

    def is_draining(self) -> bool:
        """Whether its processes read that the service is unregistered."""
        return RosterMetrics(self._story.log, memory=self.state.memory).is_draining()

    def keep_registered(self) -> None:
        """Runs a keeper until it ends."""
        keeper = Membership(self._lock)
        assert keeper.become_keeper(TASK)
        registrar = FileConfig(str(self.targets)).build()
        log = self._story.log
        roster = Roster(RosterConfig(), registrar, lambda: SERVICE, lambda: True, log, memory=self.state.memory)
        Keeper(self, keeper, roster, self.state, wait_for_signal=self._wait, log=log, clock=lambda: self.now).run()
        self._note()

    def _wait(self, seconds: float) -> bool:
        self._note()
        self.now += seconds
        while self._plan and self._plan[0][0] <= self.now:
            self._plan.pop(0)[1]()
        return self.now >= self.signal_at

    def _note(self) -> None:
        if self.is_draining():
            assert not self.targets.exists()
            self.unregistered_at = min(self.unregistered_at, self.now)
        elif self.is_serving():
            eventually(self.targets.exists)


@pytest.fixture
def server(tmp_path: Path, story: CapturedLog) -> FakeServer:
    return FakeServer(tmp_path, story)


def test_a_service_that_does_not_answer_for_long_is_logged_once(server: FakeServer, story: CapturedLog) -> None:
    server.signal_at = server.ends_at = 3 * READY_LATE
    server.keep_registered()
    (warning,) = [line for line in story.lines if line["level"] == "warning"]
    assert (warning["msg"], warning["waited"]) == ("not registered yet: /monitor does not answer 200", "10s")
    assert not server.targets.exists()


def test_a_server_that_ends_before_it_answers_is_never_registered(server: FakeServer) -> None:
    server.at(3.0, server.leave)
    server.ends_at = server.closes_at = 3.0
    server.keep_registered()
    assert server.now == pytest.approx(3.0, abs=0.5)
    assert not server.targets.exists()


@pytest.mark.parametrize(
    ("closes_at", "wait"), [(0.0, SUCCESSOR_WAIT), (1e9, LISTENING_WAIT)], ids=["port closed", "port listens"]
)
def test_it_waits_for_a_successor_of_the_last_process(server: FakeServer, closes_at: float, wait: float) -> None:
    server.serves_at, server.closes_at, server.ends_at = 0.0, closes_at, 150.0
    server.at(3.0, server.leave)
    server.at(3.0 + wait - 0.5, server.process.join)
    server.at(100.0, server.leave)
    server.keep_registered()
    assert server.unregistered_at == pytest.approx(100.0 + wait, abs=0.5)


def test_it_unregisters_at_once_when_nobody_serves_and_the_server_has_ended(server: FakeServer) -> None:
    server.serves_at, server.ends_at = 0.0, 3.0
    server.at(5.0, server.leave)
    server.keep_registered()
    assert server.unregistered_at == pytest.approx(5.0, abs=0.3)


def test_it_unregisters_at_once_when_it_is_asked_to_also_while_processes_serve(server: FakeServer) -> None:
    server.serves_at, server.signal_at, server.ends_at = 0.0, 5.0, 6.0
    server.keep_registered()
    assert server.unregistered_at == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize("end", ["closes_at", "ends_at"])
def test_it_says_that_the_service_is_unregistered_until_nobody_can_ask(server: FakeServer, end: str) -> None:
    server.serves_at, server.ends_at = 0.0, 1e9
    setattr(server, end, 20.0)
    server.signal_at = 5.0
    server.keep_registered()
    assert server.unregistered_at == pytest.approx(5.0, abs=0.3)
    assert server.now == pytest.approx(20.0, abs=0.3)


def test_it_leaves_the_service_registered_when_another_keeper_takes_over(server: FakeServer) -> None:
    server.serves_at = 0.0
    server.at(5.0, lambda: server.process.request(b"another task"))
    server.keep_registered()
    assert server.now == pytest.approx(5.0, abs=0.3)
    assert server.targets.exists()
    assert not server.is_draining()


def test_a_task_is_the_same_in_all_processes_of_a_server_and_another_after_a_restart(tmp_path: Path) -> None:
    def task(meta: str = "1", server: int = 1) -> KeeperTask:
        service = ServiceConfig(meta=(("version", meta),))
        return KeeperTask(Config(roster=RosterConfig(service=service)), "", 8000, tmp_path, server)

    assert pickle.loads(pickle.dumps(task())).digest == task().digest
    assert len({task().digest, task(meta="2").digest, task(server=2).digest}) == 3


def start_keeper(task: KeeperTask) -> str:
    """Runs the command that starts a keeper, and returns what it reports."""
    command = [sys.executable, "-m", "stator.embedding.keeper"]
    return subprocess.run(
        command, input=pickle.dumps(task), stdout=subprocess.PIPE, cwd=ROOT, check=True
    ).stdout.decode()


def test_it_reports_why_it_can_not_start(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    task = KeeperTask(Config(), "127.0.0.1", 8000, tmp_path, gone.pid)
    member = task.membership()
    member.join()
    assert "No such process" in start_keeper(task)
    state_path(tmp_path, task.service.name, os.getpid()).mkdir()
    assert "Is a directory" in start_keeper(evolve(task, server=os.getpid()))
    state_path(tmp_path, task.service.name, os.getpid()).rmdir()
    assert member.leave()
    assert list(tmp_path.iterdir()) == []
    assert "No such file" in start_keeper(KeeperTask(Config(), "", 8000, tmp_path / "missing", os.getpid()))


def test_there_is_one_keeper_whose_process_ignores_signals_to_reload(tmp_path: Path) -> None:
    task = KeeperTask(Config(), "127.0.0.1", 1, tmp_path, os.getpid())
    member = task.membership()
    member.join()
    member.request(task.digest)
    assert start_keeper(task) == start_keeper(task) == "started"
    keeper = psutil.Process(member.keeper())
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        keeper.send_signal(number)
    with pytest.raises(psutil.TimeoutExpired):
        keeper.wait(0.5)
    keeper.terminate()
    keeper.wait(10)
    assert member.leave()
    assert list(tmp_path.iterdir()) == []
