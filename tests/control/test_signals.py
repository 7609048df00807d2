"""Signals that do not stop the program: its log's level, its stacks, and files that are read again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.server.signals import IGNORED_SIGNALS
from tests.control.conftest import load
from tests.program import MODULE, Program, eventually, stand_still
from tests.server.conftest import Starts

CONTROL = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Its scrape takes as long as the file "hang" is there, in the event loop of a worker; `how` is Python.
HANGS = """
import pathlib
from stator import Point

class Hangs:
    def is_nonblocking(self):
        return True
    def collect(self, now):
        if pathlib.Path("hang").exists():
            {how}
        yield Point("hangs", "", 0)
"""
IN_C = "sum(range(10**10))"  # which no signal interrupts, and no other thread runs meanwhile
IN_PYTHON = "while pathlib.Path('hang').exists(): pass"
AWAITS = """
import asyncio
from stator import Point

async def inner():
    await asyncio.sleep(60)

async def outer():
    await inner()

class Awaits:
    task = None
    def is_nonblocking(self):
        return True
    def collect(self, now):
        self.task = self.task or asyncio.get_running_loop().create_task(outer(), name="the task")
        yield Point("awaits", "", 0)
"""
STORM = """
import os, sys, time
pid, *numbers = map(int, sys.argv[1:])
end = time.monotonic() + 30
while time.monotonic() < end:
    for number in numbers:
        try:
            os.kill(pid, number)
        except BlockingIOError:
            pass  # the kernel keeps no more of them
"""
WORKERS = {"STTR_SERVER_WORKERS": "4"}


def ready(program: Program, workers: int = 1) -> Program:
    program.wait_for("ready")
    eventually(lambda: len(program.workers) == workers)
    for each in program.workers:
        program.wait_for(f"Booting worker with pid: {each.pid}")
    return program


def debugging(program: Program) -> set[str]:
    """The workers that logged a request of a quiet path, at debug."""
    return {line["worker_id"] for line in program.lines("sending response", level="debug")}


def ask_all(program: Program, number: int) -> None:
    """Asks until so many workers have answered a quiet path and logged that at debug."""

    def asked() -> bool:
        program.get("/monitor/live")
        return len(debugging(program)) >= number

    eventually(asked)


def answered_by(program: Program) -> int:
    """Asks once more; returns how many workers have answered so far."""
    program.get("/none")
    return len({line["worker_id"] for line in program.lines("sending response")})


def test_usr1_turns_debug_on_and_off_in_all_processes(starts: Starts) -> None:
    program = ready(starts({**WORKERS, "STTR_LOGGER_QUIETPATHS": "/monitor/*"}), 4)
    for _ in range(20):
        program.get("/monitor/live")
    assert not debugging(program)
    program.send(signal.SIGUSR1)
    program.wait_for("log level changed", to="debug")
    ask_all(program, 4)
    program.send(signal.SIGUSR1)
    program.wait_for("log level changed", to="info")
    before = len(program.lines(level="debug"))
    for _ in range(20):
        program.get("/monitor/live")
    assert len(program.lines(level="debug")) == before
    assert program.stop() == 0


def test_a_worker_that_is_replaced_while_debug_is_on_has_it_too(starts: Starts) -> None:
    program = ready(starts({"STTR_SERVER_WORKERS": "2", "STTR_LOGGER_QUIETPATHS": "/monitor/*"}), 2)
    program.send(signal.SIGUSR1)
    program.wait_for("log level changed", to="debug")
    ask_all(program, 2)
    before = debugging(program)
    for each in program.workers:
        each.kill()
    ask_all(program, 4)
    assert before < debugging(program)


@pytest.mark.parametrize(("configured", "changed"), [("error", "debug"), ("debug", "info")])
def test_the_level_that_is_configured_comes_back(starts: Starts, configured: str, changed: str) -> None:
    program = starts({"STTR_LOGGER_LEVEL": configured})
    eventually(lambda: len(program.processes()) == 3)
    program.send(signal.SIGUSR1)
    program.wait_for("log level changed", to=changed)
    program.send(signal.SIGUSR1)
    # Whoever asks for it sees that it was done, whatever the level.
    program.wait_for("log level changed", to=configured, level="error" if configured == "error" else "info")


def test_usr2_writes_the_stacks_of_each_process_a_line_each(starts: Starts) -> None:
    program = ready(starts(WORKERS), 4)
    eventually(lambda: answered_by(program) == 4)
    program.send(signal.SIGUSR2)
    lines = eventually(lambda: len(found := program.lines("stacks")) == 6 and found) or []
    assert sorted(line["process"] for line in lines) == ["arbiter", "main", *["worker"] * 4]
    assert {line["pid"] for line in lines} == {each.pid for each in program.processes()}
    for line in lines:
        assert line["stacks"].startswith("thread ")
        # Whole, though it is longer than other fields may be.
        assert "truncated" not in line["stacks"]
        assert len(line["stacks"].splitlines()) > 5
    worker = next(line for line in lines if line["process"] == "worker")
    assert worker["tasks"] >= 1
    assert "\n\ntask Task-1\n" in worker["stacks"]
    assert "in main_loop: " in worker["stacks"]
    assert worker["worker_id"]
    assert program.errors == ""


def test_a_task_is_listed_with_all_that_it_awaits(starts: Starts) -> None:
    program = ready(starts({"STTR_COLLECTORS": "awaits:Awaits"}, modules={"awaits": AWAITS}))
    for _ in range(2):  # when the first answer comes, the task may not have begun
        program.get("/metrics")
    program.send(signal.SIGUSR2)
    stacks = program.wait_for("stacks", process="worker")["stacks"]
    (text,) = (each for each in stacks.split("\n\n") if each.startswith("task the task\n"))
    assert [line.partition(" in ")[2].partition(":")[0] for line in text.splitlines()[1:]] == [
        "sleep",
        "inner",
        "outer",
    ]


@pytest.mark.parametrize(("how", "reason"), [(IN_PYTHON, None), (IN_C, "its main thread is in C code")])
def test_a_worker_that_is_busy_says_where(starts: Starts, how: str, reason: str | None) -> None:
    modules = {"hangs": HANGS.format(how=how)}
    program = ready(starts({"STTR_COLLECTORS": "hangs:Hangs"}, modules=modules))
    hang = program.stdout.parent / "hang"
    hang.touch()
    with program.dial() as scrape:
        scrape.sendall(b"GET /metrics HTTP/1.1\r\nHost: stator\r\n\r\n")
        program.wait_for("received request", path="/metrics")
        program.send(signal.SIGUSR2)
        line = program.wait_for("stacks", process="worker")
        assert line.get("reason") == reason
        assert "collect" in line["stacks"]
        assert "hangs.py" in line["stacks"]
        hang.unlink()
        if reason is None:
            assert scrape.recv(15) == b"HTTP/1.1 200 OK"
    assert program.errors == ""


def test_of_a_process_that_is_stopped_only_that_is_said(starts: Starts) -> None:
    program = ready(starts({"STTR_SERVER_WORKERS": "2"}), 2)
    stopped, other = program.workers
    stand_still(stopped.pid)
    program.send(signal.SIGUSR2)
    assert program.wait_for("stacks can't be had", pid=stopped.pid)["state"] == "T"
    program.wait_for("stacks", pid=other.pid)
    stopped.resume()
    program.wait_for("stacks", pid=stopped.pid)


def test_hup_reads_secrets_again_and_says_which_have_changed(starts: Starts, tmp_path: Path) -> None:
    token, password = tmp_path / "token", tmp_path / "password"
    token.write_text("first token")
    password.write_text("first password")
    files = {"STTR_CONSUL_TOKEN_FILE": str(token), "STTR_CLIENT_PASS_FILE": str(password), "STTR_CLIENT_USER": "me"}
    program = ready(starts({**files, **WORKERS}), 4)
    before = program.processes()
    program.send(signal.SIGHUP)
    program.wait_for("read files again: none has changed")
    token.write_text("second token")
    program.send(signal.SIGHUP)
    assert program.wait_for("read files again")["changed"] == "STTR_CONSUL_TOKEN_FILE"
    token.unlink()
    program.send(signal.SIGHUP)
    eventually(lambda: len(program.lines("read files again: none has changed")) == 2)
    assert program.processes() == before
    assert "second token" not in program.output
    assert program.stop() == 0
    assert [line for line in program.lines() if line["level"] not in ("debug", "info")] == []


def test_hup_stays_ignored_where_nohup_has_started_it(starts: Starts) -> None:
    ignoring = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    program = starts(command=(sys.executable, "-c", f"{ignoring}; os.execv({sys.executable!r}, {MODULE!r})"))
    ready(program)
    program.send(signal.SIGHUP)
    program.send(signal.SIGUSR1)
    program.wait_for("log level changed")
    assert not program.lines("read files again: none has changed")


def test_signals_to_the_servers_processes_end_none_of_them(starts: Starts) -> None:
    program = ready(starts(WORKERS), 4)
    before = program.processes()
    with load(program) as statuses:
        for each in before[1:]:
            for number in (*CONTROL, LEVEL_SIGNAL, STACKS_SIGNAL):
                each.send_signal(number)
        eventually(lambda: len(statuses) > 200)
    assert set(statuses) == {200}
    assert program.processes() == before
    assert program.stop() == 0


@pytest.mark.parametrize("env", [{}, {"PYTHONFAULTHANDLER": "1"}])
def test_all_signals_at_once_end_no_process_that_was_stopped(starts: Starts, env: dict[str, str]) -> None:
    program = ready(starts({**WORKERS, **env}), 4)
    before = program.processes()
    for each in before:
        stand_still(each.pid)
        for number in (signal.SIGHUP, STACKS_SIGNAL, *IGNORED_SIGNALS):
            each.send_signal(number)
        each.resume()
    eventually(lambda: {line["pid"] for line in program.lines("stacks")} == {each.pid for each in before})
    with load(program) as statuses:
        eventually(lambda: len(statuses) > 200)
    assert set(statuses) == {200}
    assert program.processes() == before
    assert program.stop() == 0
    assert program.errors == ""


def test_a_storm_of_signals_under_load_loses_no_request_and_no_worker(starts: Starts) -> None:
    program = ready(starts({**WORKERS, "STTR_LOGGER_ACCESS": "off"}), 4)
    before = program.processes()
    with load(program) as statuses:
        count, until = 0, time.monotonic() + 4
        while time.monotonic() < until or len(statuses) < 500:
            for number in (*CONTROL, LEVEL_SIGNAL, STACKS_SIGNAL):
                os.kill(program.pid, number)
                count += 1
            time.sleep(0.0005)
        # While others come, the one to stop is not kept waiting.
        assert program.processes() == before
    assert set(statuses) == {200}
    for number in (*CONTROL, *[STACKS_SIGNAL] * 50):
        os.kill(program.pid, number)
    assert program.stop() == 0
    assert count > 500
    assert not [line for line in program.lines() if line["level"] not in ("debug", "info")]
    assert program.errors == ""


@pytest.mark.parametrize("moment", ["starting up", "Starting gunicorn", "Booting worker"])
def test_signals_during_the_start_do_not_end_it(starts: Starts, moment: str) -> None:
    program = starts(WORKERS)
    eventually(lambda: moment in program.output)
    for _ in range(20):
        for number in (*CONTROL, LEVEL_SIGNAL, STACKS_SIGNAL):
            os.kill(program.pid, number)
        time.sleep(0.005)
    ready(program, 4)
    assert program.get("/monitor").status == 200
    assert program.stop() == 0
    assert program.errors == ""


@pytest.mark.parametrize("storm", [(*CONTROL, LEVEL_SIGNAL, STACKS_SIGNAL), (STACKS_SIGNAL,)])
def test_a_storm_during_the_stop_does_not_delay_or_spoil_it(starts: Starts, storm: tuple[signal.Signals, ...]) -> None:
    program = ready(starts(WORKERS), 4)
    # Until it is reaped, signals to it are no error.
    command = [sys.executable, "-c", STORM, str(program.pid), *(str(int(number)) for number in storm)]
    senders = [subprocess.Popen(command) for _ in range(2)]
    time.sleep(0.5)
    program.send(signal.SIGTERM)
    try:
        eventually(lambda: psutil.Process(program.pid).status() == psutil.STATUS_ZOMBIE)
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()
    assert program.ended() == 0
    assert not [line for line in program.lines() if line["level"] not in ("debug", "info")]
    assert program.errors == ""
