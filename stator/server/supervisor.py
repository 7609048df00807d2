"""The main process: it starts gunicorn, registers when that answers, and ends both in the right order."""

import os
import signal
import socket
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from math import inf
from typing import NoReturn

from attrs import define, field

from stator.access.probes import KEY_HEADER
from stator.client.probe import is_ready
from stator.log.logger import Log
from stator.processes.service import ServiceProcesses
from stator.server.config import ServerConfig
from stator.server.interfaces import Control, Program, Roster
from stator.server.listener import listening_address
from stator.server.service_manager import ServiceManager
from stator.server.signals import CONTROL_SIGNALS, STOP_SIGNALS, block_signals, end_with_parent, wait_for_signal
from stator.settings.declare import StartError

FAILED = 1
SIGNAL_DEBOUNCE = 0.1  # seconds in which signals to stop count as one: timeout(1) sends its own to us and to our group
KILL_TIMEOUT = 2.0  # seconds in which the kernel has ended a process that was killed
ORPHAN_GRACE = 0.5  # seconds in which a process that the program has left behind may end by itself
LOCAL = "127.0.0.1"
LIVE = "/monitor/live"


def is_serving(address: tuple[str, int], scheme: str, key: str, path: str = "/monitor", timeout: float = 1.0) -> bool:
    """Returns whether the service answers 200 within some seconds; an empty host stands for all addresses.

    `key` is that by which it knows our probes.
    """
    host, port = address[0] or LOCAL, address[1]
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return is_ready(f"{scheme}://{netloc}{path}", timeout, {KEY_HEADER: key})


@define
class _Stopped(Exception):  # noqa: N818 # not an error
    """A signal asks to stop."""

    by: signal.Signals


@define(eq=False, repr=False)
class Supervisor:
    """Runs the service from start to end; waits for signals, so that none interrupts anything half-way."""

    _config: ServerConfig
    _listener: socket.socket
    _serve: Callable[[], None]  # serves until a signal stops it, in the server's process
    _roster: Roster
    _drain: float  # seconds between unregistering and stopping
    _processes: ServiceProcesses
    _manager: ServiceManager
    _control: Control
    _log: Log
    _probe: Callable[[str], bool]  # returns whether the service answers 200 at a path
    _program: Program | None = None
    _forwarded: AbstractSet[int] = frozenset()  # signals that are for the program
    _signals: AbstractSet[int] = field(factory=set, init=False)
    _server: int = field(default=0, init=False)
    _has_registered: bool = field(default=False, init=False)  # or has begun to
    _server_status: int | None = field(default=None, init=False)
    _last_signal: float = field(default=-inf, init=False)

    def run(self) -> int:
        """Returns the exit status: 0 after a signal, 128 and its number after a second one, 1 if gunicorn died."""
        address = listening_address(self._listener)
        self._signals = block_signals()
        self._processes.register("main")
        self._server = self._fork()
        self._listener.close()
        self._control.publish(arbiter=self._server)
        status = 0
        try:
            if self._wait_until_ready(address) and self._start_program():
                # Not /monitor, which fails while the service is unregistered and drains.
                self._manager.ready(partial(self._probe, LIVE))
                self._control.publish(state="running")
                self._roster.start()
                self._has_registered = True
                self._wait(inf)
            status = self._status_of_end()
        except StartError as error:
            status = getattr(error, "status", FAILED)
            self._log.error("can't start", reason=str(error))
        except _Stopped as stopped:
            self._log.info("shutting down", signal=stopped.by.name)
        self._manager.stopping()
        self._control.publish(state="stopping")
        try:
            self._leave()
            if status == 0 and self._program is not None:
                status = self._status_of_program()
        except _Stopped as stopped:
            status = 128 + stopped.by
            self._log.warning("stopping at once", signal=stopped.by.name)
        finally:
            self._kill()
        self._log.info("stopped", status=status)
        return status

    def _fork(self) -> int:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            msg = f"can't start a process for the server: {error.strerror}"
            raise StartError(msg) from error
        if pid == 0:
            self._become_server(parent)
        # A group of its own, so that a terminal's Ctrl-C reaches us alone; set on both sides, whichever is first.
        os.setpgid(pid, pid)
        return pid

    def _become_server(self, parent: int) -> NoReturn:
        """Becomes the server's process; never returns to what the main process was doing."""
        status = FAILED
        try:
            os.setpgid(0, 0)
            end_with_parent(parent, signal.SIGQUIT)
            self._control.prepare_server()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
            self._listener.detach()
            self._serve()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else FAILED
        except BaseException as error:  # noqa: BLE001 # whatever it is, this process ends here
            self._log.error("http service failed", error=error)
        finally:
            os._exit(status)

    def _wait_until_ready(self, address: tuple[str, int]) -> bool:
        """Waits until the service answers; returns False if the server has ended."""
        # Health checks may fail: the program that they look at need not run yet.
        while not self._probe(LIVE):
            if not self._wait(0.01):
                return False
        host, port = address
        self._log.info("ready", address=f"{host or LOCAL}:{port}")
        return True

    def _start_program(self) -> bool:
        """Starts the program, if there is one, and waits until it is healthy; returns False if it has ended."""
        if self._program is None:
            return True
        # After the server's process was forked, which has its own use for them.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._forwarded)
        self._program.start(self._server)
        self._control.publish(child=self._program.pid)
        deadline = time.monotonic() + self._program.start_timeout
        while not self._program.is_healthy():
            if time.monotonic() > deadline:
                msg = f"the program was not healthy within {self._program.start_timeout:g} s"
                raise StartError(msg)
            if not self._wait(0.05):
                return False
        # What it has left in the background, or another program, may answer in its place.
        return self._wait(0)

    def _has_ended(self) -> bool:
        return self._server_status is not None or (self._program is not None and self._program.status is not None)

    def _status_of_end(self) -> int:
        """Returns the exit status after the server or the program has ended by itself."""
        if self._server_status is None and self._program is not None:
            return self._status_of_program()
        self._log.error("http service ended by itself", status=self._server_status)
        return FAILED

    def _status_of_program(self) -> int:
        """Returns its exit status, 0 if it was not started, and 1 if it can't be ended."""
        if self._program is None or not self._program.pid:
            return 0
        return FAILED if self._program.status is None else self._program.status

    def _wait(self, seconds: float, has_ended: Callable[[], bool] | None = None) -> bool:
        """Waits, and returns whether all still runs: False at once if not; raises _Stopped at a signal."""
        deadline, has_ended = time.monotonic() + seconds, has_ended or self._has_ended
        while not has_ended():
            number = wait_for_signal(self._signals | self._forwarded, deadline - time.monotonic())
            now = time.monotonic()
            if number == signal.SIGCHLD:
                self._reap()
            elif number not in STOP_SIGNALS:
                self._handle(number)
                if now >= deadline:
                    return True
            elif now - self._last_signal >= SIGNAL_DEBOUNCE:
                self._last_signal = now
                raise _Stopped(signal.Signals(number))
        return False

    def _handle(self, number: int) -> None:
        """Handles a signal that does not stop us, or passes it on to the program; SIGHUP is for both, 0 is none."""
        if number in self._forwarded and self._program is not None:
            self._program.send(number)
        if number in CONTROL_SIGNALS and (number not in self._forwarded or number == signal.SIGHUP):
            self._control.handle(number, self._server if self._server_status is None else None)

    def _reap(self) -> None:
        """Reaps children that have ended; as process 1 of a container we get orphans too."""
        with suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                pid, status, usage = ended
                if pid == self._server:
                    self._server_status = os.waitstatus_to_exitcode(status)
                elif self._program is not None:
                    self._program.reaped(pid, status, usage)

    def _leave(self) -> None:
        """Unregisters first, then drains, then ends the server; raises _Stopped at a further signal."""
        self._roster.stop()
        while not self._roster.wait_stopped(0.02):
            self._wait(0)
        if self._has_registered:
            self._wait(self._drain)
        self._stop_program()
        if self._server_status is None:
            os.kill(self._server, signal.SIGTERM)
            # Gunicorn kills its workers after the timeout.
            if self._wait(self._config.timeout.seconds + 2, lambda: self._server_status is not None):
                self._log.warning("http service does not end, killing it")

    def _stop_program(self) -> None:
        """Asks the program to stop, and kills it if it does not; what it leaves running is killed too."""
        program = self._program
        if program is None or not program.pid:
            return
        program.ask_to_stop()
        if self._wait(program.stop_timeout, lambda: program.status is not None):
            self._log.warning("program does not end, killing it")
        else:
            # What has just lost its parent, such as multiprocessing's resource tracker, may be about to end.
            self._wait(ORPHAN_GRACE, lambda: not program.rest(without=self._server))
        program.kill(without=self._server)
        self._wait(KILL_TIMEOUT, lambda: program.status is not None)

    def _kill(self) -> None:
        """Kills what is left of the program, and of the server: all of it, or workers whose arbiter is gone."""
        if self._program is not None:
            self._program.kill(without=self._server)
        try:
            os.killpg(self._server, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._reap()
