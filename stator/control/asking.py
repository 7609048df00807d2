"""Writes the stacks of all processes of a service into the log: each writes its own, when the main process asks it."""

import faulthandler
import os
import select
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from attrs import define, field

from stator.control.numbers import FAULT_SIGNAL, STACKS_SIGNAL
from stator.control.stacks import stacks
from stator.log.level import Level
from stator.log.logger import Log
from stator.processes.procfs import Stat
from stator.processes.service import Process, ServiceProcesses
from stator.processes.signal_stack import widen_signal_stack

MESSAGE, FAILED = "stacks", "stacks can't be had"
ANSWER_TIMEOUT = 1.0  # seconds in which a process writes its stacks if its main thread runs Python
FAULT_TIMEOUT, FAULT_POLL = 0.3, 0.01  # seconds in which the kernel interrupts its main thread, and between two looks
_PID = struct.Struct("i")
_LARGEST_FAULT = 1 << 16


def _pipe() -> tuple[int, int]:
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


def _memory() -> int | None:
    with suppress(OSError):
        return os.memfd_create("stator-stacks")
    return None


@define(eq=False, repr=False)
class StackDump:
    """Asks a service's processes for their stacks. To be created before the service forks."""

    _processes: ServiceProcesses
    _level: Level
    _log: Log
    # Who has written its stacks writes its process id here.
    _answers: tuple[int, int] = field(factory=_pipe, init=False)
    # The interpreter's own handler writes here: the only one that runs while C code holds up the main thread.
    _faults: int | None = field(factory=_memory, init=False)
    _owing: set[int] = field(factory=set, init=False)  # who was asked, and has not answered yet

    def answer(self) -> None:
        """Makes this process, and those that it forks, answer; call it before they get signals."""
        signal.signal(STACKS_SIGNAL, self._answer)
        # Not all threads: those that run while it looks at them might be seen half-way, and end the process.
        if self._faults is not None:
            faulthandler.register(FAULT_SIGNAL, file=self._faults, all_threads=False, chain=False)
            widen_signal_stack()

    def _answer(self, _number: int, frame: FrameType | None) -> None:
        try:
            self._write(MESSAGE, self._processes.role, os.getpid(), **stacks(frame).fields())
        except Exception as error:  # noqa: BLE001 # it would end whatever the signal has interrupted
            self._log.error("failed to find the stacks", error=error)
        with suppress(OSError):  # nobody has read for long
            os.write(self._answers[1], _PID.pack(os.getpid()))

    def ask(self) -> None:
        """Writes this process's stacks into the log, and lets the others write theirs; waits a moment for those."""
        self._write(MESSAGE, self._processes.role, os.getpid(), **stacks().fields())
        self._receive(0)
        others = {each.pid: each for each in self._processes.snapshot() if each.pid != os.getpid()}
        asked = {pid for pid, each in others.items() if each.stat.is_alive}
        self._owing &= asked
        for pid in asked - self._owing:
            with suppress(ProcessLookupError):
                os.kill(pid, STACKS_SIGNAL)
                self._owing.add(pid)
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while any(map(_is_running, self._owing)) and (left := deadline - time.monotonic()) > 0:
            self._receive(left)
        for pid in sorted(self._owing):
            self._interrupt(others[pid])

    def _receive(self, seconds: float) -> None:
        """Waits for answers, and takes them."""
        if select.select([self._answers[0]], [], [], seconds)[0]:
            data = os.read(self._answers[0], 1 << 16)
            self._owing -= {pid for (pid,) in _PID.iter_unpack(data)}

    def _interrupt(self, process: Process) -> None:
        """Logs the main thread's stack of a process that does not answer, or why that can't be had."""
        text = self._fault(process.pid) if _is_running(process.pid) else ""
        if text:
            reason = "its main thread is in C code"
            self._write(MESSAGE, process.role, process.pid, threads=1, reason=reason, stacks=text)
            return
        with suppress(OSError):  # it has ended
            state = Stat.of(process.pid).state.decode()
            self._write(FAILED, process.role, process.pid, state=state, waits_in=_waits_in(process.pid))

    def _write(self, message: str, role: str, pid: int, **fields: object) -> None:
        self._log.log(self._level.visible, message, process=role, pid=pid, **fields)

    def _fault(self, pid: int) -> str:
        """Returns the main thread's stack as the interpreter's own handler writes it; empty if that does not run."""
        if self._faults is None:
            return ""
        os.ftruncate(self._faults, 0)
        os.lseek(self._faults, 0, os.SEEK_SET)
        with suppress(ProcessLookupError):
            os.kill(pid, FAULT_SIGNAL)
        size, deadline = 0, time.monotonic() + FAULT_TIMEOUT
        while time.monotonic() < deadline:
            time.sleep(FAULT_POLL)
            before, size = size, os.fstat(self._faults).st_size
            if size and size == before:
                break
        return os.pread(self._faults, _LARGEST_FAULT, 0).decode(errors="replace").rstrip()


def _is_running(pid: int) -> bool:
    """Whether a process may answer: it is there, and not stopped."""
    with suppress(OSError):
        return Stat.of(pid).state not in b"ZXTt"
    return False


def _waits_in(pid: int) -> str:
    """Returns the kernel's function in which a process waits; empty where the kernel does not say."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/wchan").read_text().strip("0\n")
    return ""
