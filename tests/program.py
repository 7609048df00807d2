"""Stator itself as a test meets it: a program that is started, asked, read and stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, TypeVar

import psutil
import pytest

T = TypeVar("T")
Line = dict[str, Any]

ROOT = Path(__file__).parents[1]
MODULE = (sys.executable, "-m", "stator")


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def eventually(probe: Callable[[], T], within: float = 10.0) -> T:
    """Calls a probe until what it gives is true, and gives that.

    Raises:
        TimeoutError: Nothing was true for so many seconds.
    """
    deadline = time.monotonic() + within
    while not (outcome := probe()):
        if time.monotonic() > deadline:
            msg = f"not in {within} seconds; the last outcome was {outcome!r}"
            raise TimeoutError(msg)
        time.sleep(0.005)
    return outcome


def stand_still(pid: int) -> None:
    """Stops a process as SIGSTOP does, and waits until each of its threads stands: the signal alone takes a while."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(map(_stands, Path(f"/proc/{pid}/task").iterdir())))


def _stands(thread: Path) -> bool:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return True


def cannot(reason: str) -> NoReturn:
    """Skips a test that can't be made here; with CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Program:
    """Stator in a session of its own, on a free port of 127.0.0.1 unless told otherwise.

    Args:
        env: Variables; those of the test's own environment that begin with ``STTR_`` are not passed on.
        folder: Where it runs, and where its output goes.
        args: Command line.
        command: What is run.
        stdout: Where its log goes instead, as `subprocess` has it; then there are no `lines`.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        folder: Path,
        *,
        args: Sequence[str] = (),
        command: Sequence[str] = MODULE,
        stdout: int | None = None,
    ) -> None:
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        # That of a wrapped program is its own.
        self._log = self.stderr if "--" in args else self.stdout
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STTR_")}
        defaults = {"STTR_SERVER_HOST": "127.0.0.1", "STTR_SERVER_PORT": "0", "PYTHONPATH": str(ROOT)}
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [*command, *args],
                cwd=folder,
                env={**inherited, **defaults, **env},
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._port = int(env.get("STTR_SERVER_PORT", "0"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def port(self) -> int:
        """Where it listens; known as soon as it is ready."""
        if not self._port:
            self._port = int(self.wait_for("ready")["address"].rpartition(":")[2])
        return self._port

    def lines(self, msg: str | None = None, **fields: object) -> list[Line]:
        """What it logged: all lines, or those with a message and fields."""
        wanted = fields if msg is None else {"msg": msg, **fields}
        lines = self._log.read_bytes().splitlines(keepends=True)
        whole = (line for line in lines if line.endswith(b"\n") and (self._log is self.stdout or line[:1] == b"{"))
        return [line for line in map(json.loads, whole) if wanted.items() <= line.items()]

    def wait_for(self, msg: str, *, within: float = 10.0, **fields: object) -> Line:
        """Waits for a line of the log, and gives the first such.

        Raises:
            AssertionError: There is none in time, or the program ended without.
        """
        deadline = time.monotonic() + within
        while True:
            ended = self._process.poll() is not None or time.monotonic() > deadline
            if found := self.lines(msg, **fields):
                return found[0]
            if ended:
                told = f"no line {msg!r} {fields}, exit status {self._process.poll()}:\n{self.output}\n{self.errors}"
                raise AssertionError(told)
            time.sleep(0.005)

    @property
    def output(self) -> str:
        """All that it wrote to stdout."""
        return self.stdout.read_text()

    @property
    def errors(self) -> str:
        """All that it wrote to stderr."""
        return self.stderr.read_text()

    def connect(self) -> HTTPConnection:
        """A connection to it."""
        return HTTPConnection("127.0.0.1", self.port, timeout=10)

    def dial(self) -> socket.socket:
        """A bare connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Asks on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, dict(response.headers), response.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks with GET."""
        return self.request("GET", path, headers=headers)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the main process alone."""
        self._process.send_signal(number)

    def ended(self, within: float = 10.0) -> int:
        """Waits for its end, and gives its exit status.

        Raises:
            AssertionError: It still runs; says which processes, and what they wrote.
        """
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            processes = "\n".join(map(_described, self.processes()))
            msg = f"it still runs after {within} s:\n{processes}\n{self.output[-5000:]}\n{self.errors[-5000:]}"
            raise AssertionError(msg) from None

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 10.0) -> int:
        """Asks it to stop; gives its exit status."""
        self.send(number)
        return self.ended(within)

    def processes(self) -> list[psutil.Process]:
        """All of its processes that run, the main one first; also those that it left behind."""
        return [each for each in psutil.process_iter() if _runs_in(self.pid, each)]

    @property
    def arbiter(self) -> psutil.Process:
        """Gunicorn's own process."""
        return psutil.Process(self.pid).children()[0]

    @property
    def workers(self) -> list[psutil.Process]:
        """Gunicorn's workers."""
        return self.arbiter.children()

    def kill(self) -> None:
        """Ends what is left of it, at once."""
        for each in self.processes():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self._process.wait()


def _described(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, OSError):
        folder = Path(f"/proc/{process.pid}")
        kept = ("State", "PPid", "Threads", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
        lines = (line for line in (folder / "status").read_text().splitlines() if line.startswith(kept))
        threads = [
            f"{(each / 'comm').read_text().strip()}: {(each / 'wchan').read_text()}" for each in folder.glob("task/*")
        ]
        return " ".join((str(process.pid), *process.cmdline(), *lines, *threads))
    return f"{process.pid} has ended"


def _runs_in(session: int, process: psutil.Process) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
