"""The main process: it starts gunicorn, registers when that answers, and ends both in the right order.

Signals are not handled but waited for: the main thread blocks them and takes them one at a time, so nothing is
ever interrupted half-way.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from stator.client.probe import is_ready
from stator.log.logger import Log
from stator.processes.service import ServiceProcesses
from stator.server.listener import ServerConfig, listening_address
from stator.server.signals import block_signals, end_with_parent
from stator.settings.declare import StartError

FAILED = 1
# The server's exit status if it can't start, and has logged why.
NOT_STARTED = 2
# Seconds between two looks whether the service answers yet; it takes a few hundred milliseconds to start.
READY_POLL = 0.01
# Seconds between two looks whether the roster has unregistered.
LEFT_POLL = 0.02
# Seconds that gunicorn may take beyond its graceful timeout before it is killed.
GRACE = 2.0
# Seconds in which signals to stop count as one: timeout(1), for instance, sends its own to us and to our group.
SIGNAL_DEBOUNCE = 0.1
LOCAL = "127.0.0.1"


class Roster(Protocol):
    """Keeps the service registered."""

    def start(self) -> None:
        """Begins to register."""

    def stop(self) -> None:
        """Begins to unregister."""

    def wait_stopped(self, timeout: float) -> bool:
        """Waits for it to stop, for `timeout` seconds at most; returns whether it has."""


def is_serving(address: tuple[str, int]) -> bool:
    """Returns whether the service answers /monitor within a second; an empty host stands for all addresses."""
    host, port = address[0] or LOCAL, address[1]
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return is_ready(f"http://{netloc}/monitor")


class _Stopped(Exception):  # noqa: N818 # not an error
    """A signal asks to stop."""

    def __init__(self, signal_: signal.Signals) -> None:
        super().__init__(signal_.name)
        self.signal = signal_


class Supervisor:
    """Runs the service from start to end.

    Args:
        config: How the service listens.
        listener: The listening socket.
        load: Makes the ASGI application; called in the server's process.
        roster: Keeps the service registered.
        drain: Seconds between unregistering and stopping.
        processes: Where this process, the server's and its workers register.
        log: Where starts and stops are logged.
    """

    def __init__(
        self,
        config: ServerConfig,
        listener: socket.socket,
        load: Callable[[], Any],
        roster: Roster,
        *,
        drain: float,
        processes: ServiceProcesses,
        log: Log,
    ) -> None:
        self._config, self._listener, self._load, self._roster = config, listener, load, roster
        self._drain, self._processes, self._log = drain, processes, log
        self._address = listening_address(listener)
        self._server = 0
        self._server_status: int | None = None
        self._last_signal = -SIGNAL_DEBOUNCE

    def run(self) -> int:
        """Serves until a signal comes or gunicorn dies.

        Raises:
            StartError: The server's process can't be started.

        Returns:
            The exit status: 0 after a signal, 128 and its number after a second one, 1 if gunicorn died.
        """
        self._signals = block_signals()
        self._processes.register("main")
        self._server = self._fork()
        self._listener.close()
        status = 0
        try:
            self._wait_until_ready()
            self._wait(None)
            status = FAILED
            if self._server_status != NOT_STARTED:
                self._log.error("http service ended by itself", status=self._server_status)
        except StartError as error:
            status = FAILED
            self._log.error("can't start", reason=str(error))
        except _Stopped as stopped:
            self._log.info("shutting down", signal=stopped.signal.name)
        try:
            self._leave()
        except _Stopped as stopped:
            status = 128 + stopped.signal
            self._log.warning("stopping at once", signal=stopped.signal.name)
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
            self._serve(parent)
        # A group of its own, so that a terminal's Ctrl-C reaches us alone; set on both sides, whichever is first.
        os.setpgid(pid, pid)
        return pid

    def _serve(self, parent: int) -> NoReturn:
        """Becomes the server's process; never returns to what the main process was doing."""
        status = FAILED
        try:
            os.setpgid(0, 0)
            end_with_parent(parent, signal.SIGQUIT)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
            from stator.server.versions import check_versions

            check_versions()
            from stator.server.arbiter import serve  # after the check: it may not even be importable

            serve(self._config, self._load, self._listener.detach(), self._processes)
        except StartError as error:
            status = NOT_STARTED
            self._log.error("can't start", reason=str(error))
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else FAILED
        except BaseException as error:  # noqa: BLE001 # whatever it is, this process ends here
            self._log.error("http service failed", error=error)
        finally:
            os._exit(status)

    def _wait_until_ready(self) -> None:
        """Waits until the service answers, and starts the roster; returns without if the server has ended."""
        while not is_serving(self._address):
            if not self._wait(READY_POLL):
                return
        host, port = self._address
        self._log.info("ready", address=f"{host or LOCAL}:{port}")
        self._roster.start()

    def _wait(self, seconds: float | None) -> bool:
        """Waits for some seconds, or for ever.

        Returns:
            Whether the server still runs; if not, at once.

        Raises:
            _Stopped: A signal came.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while self._server_status is None:
            left = 3600.0 if deadline is None else max(0.0, deadline - time.monotonic())
            came = signal.sigtimedwait(self._signals, left)
            if came is None and deadline is not None:
                return True
            if came is not None and came.si_signo == signal.SIGCHLD:
                self._reap()
            elif came is not None and not self._is_echo():
                raise _Stopped(signal.Signals(came.si_signo))
        return False

    def _is_echo(self) -> bool:
        """Returns whether a signal that comes now only repeats the last one that counted."""
        now = time.monotonic()
        if now - self._last_signal < SIGNAL_DEBOUNCE:
            return True
        self._last_signal = now
        return False

    def _reap(self) -> None:
        """Reaps children that have ended; as process 1 of a container we get orphans too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._server:
                self._server_status = os.waitstatus_to_exitcode(status)

    def _leave(self) -> None:
        """Unregisters first, then drains, then ends the server.

        Raises:
            _Stopped: A further signal came.
        """
        self._roster.stop()
        while not self._roster.wait_stopped(LEFT_POLL):
            self._wait(0)
        if self._wait(self._drain):
            os.kill(self._server, signal.SIGTERM)
            if self._wait(self._config.timeout.seconds + GRACE):
                self._log.warning("http service does not end, killing it")

    def _kill(self) -> None:
        """Kills what is left of the server: all of it, or workers whose arbiter is gone."""
        try:
            os.killpg(self._server, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._reap()
