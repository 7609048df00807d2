"""A wrapped program from its start to its end, with all processes that it starts."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from resource import struct_rusage

import psutil
from attrs import define, field

from stator.child.metrics import ChildMetrics
from stator.child.output import OutputLog
from stator.log.logger import Log
from stator.processes.wrapped import VARIABLE
from stator.settings.declare import StartError

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # exit statuses, as shells have them
# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class ChildError(StartError):
    """The program can't be started; `status` is the exit status of a shell that could not start it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@define(eq=False)
class ChildProcess:
    """A program in a session and process group of its own, which ends if this process is killed."""

    _command: Sequence[str]
    _environ: Mapping[str, str]
    _stop_signal: signal.Signals
    start_timeout: float  # seconds until it must be healthy
    stop_timeout: float  # seconds after the stop signal until it is killed
    metrics: ChildMetrics
    _check: Callable[[], bool] | None  # its health, once it runs
    _output: OutputLog | None
    _log: Log
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _status: int | None = field(default=None, init=False)
    _unkillable: set[int] = field(factory=set, init=False)  # pids that were logged

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""
        return self._process.pid if self._process else 0

    @property
    def status(self) -> int | None:
        """Its exit status, 128 and more if a signal ended it; None while it runs."""
        return self._status

    def is_healthy(self) -> bool:
        """Whether its health check passes."""
        return self._check is None or self._check()

    def start(self, server: int) -> None:
        """Starts it, beside the server's process; raises ChildError. No other thread may run."""
        libc, parent = ctypes.CDLL(None), os.getpid()
        # What it leaves behind when it ends becomes a child of ours.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            self._process = subprocess.Popen(  # noqa: S603 # it is what we are for
                self._command,
                env={**self._environ, VARIABLE: "1"},
                stdout=subprocess.PIPE if self._output else None,
                stderr=subprocess.PIPE if self._output else None,
                start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 # there are no threads
            )
        except OSError as error:
            status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
            msg = f"{self._command[0]} can't be started: {error.strerror}"
            raise ChildError(msg, status) from error
        if self._output and self._process.stdout and self._process.stderr:
            self._output.start(self._process.stdout, self._process.stderr)
        self.metrics.started(self.pid, server)
        self._log.info("program started", program=self._command[0], pid=self.pid)

    def reaped(self, pid: int, wait_status: int, usage: struct_rusage) -> None:
        """Takes what `wait4` reports of it, or of a process that it has left behind; logs its own end."""
        self.metrics.reaped(usage)
        if pid != self.pid:
            return
        code = os.waitstatus_to_exitcode(wait_status)
        self._status = code if code >= 0 else 128 - code
        if self._process:
            self._process.returncode = code
        fields = {"signal": _signal_name(-code)} if code < 0 else {"status": code}
        log = self._log.info if code in (0, -self._stop_signal) else self._log.warning
        log("program ended", program=self._command[0], **fields)

    def send(self, number: int) -> bool:
        """Sends it a signal; returns False, with a line, if we may not."""
        if self._process and self._status is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass
            except PermissionError:
                self._log.error("may not signal the program", pid=self.pid, signal=_signal_name(number))
                return False
        return True

    def ask_to_stop(self) -> None:
        """Sends it the stop signal."""
        if self.send(self._stop_signal):
            self.send(signal.SIGCONT)  # one that stands still would not stop

    def rest(self, without: int) -> list[psutil.Process]:
        """Returns the processes that are left of it and run, other than the server's process and its workers."""
        own = psutil.Process()
        others = {without, *(each.pid for each in _descendants(without))}
        return [each for each in own.children(recursive=True) if each.pid not in others and _is_alive(each)]

    def kill(self, without: int) -> None:
        """Kills what is left of it, whatever session it has moved to, other than the server's processes."""
        unkillable = []
        if self._process and self._status is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            except PermissionError:
                unkillable.append(self.pid)
        rest = [each for each in self.rest(without) if each.pid not in {self.pid, *self._unkillable}]
        if rest:
            self._log.warning("program left processes behind, killing them", processes=len(rest))
        for each in rest:
            try:
                each.kill()
            except psutil.NoSuchProcess:
                pass
            except psutil.AccessDenied:
                unkillable.append(each.pid)
        if new := sorted({*unkillable} - self._unkillable):
            self._unkillable.update(new)
            self._log.error("may not kill what is left of the program", pids=", ".join(map(str, new)))
        if self._output:
            self._output.finish()


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _descendants(pid: int) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children(recursive=True)


def _signal_name(number: int) -> str:
    return (
        signal.Signals(number).name if number in signal.valid_signals() and number <= signal.SIGRTMIN else str(number)
    )
