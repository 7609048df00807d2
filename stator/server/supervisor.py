"""The main process: it starts gunicorn, registers when that answers, and ends both in the right order.

Signals are not handled but waited for: the main thread blocks them and takes them one at a time, so nothing is
ever interrupted half-way.
"""

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from attrs import frozen

from stator.client.probe import is_ready
from stator.log.logger import Log
from stator.processes.service import ServiceProcesses
from stator.settings.declare import StartError, at_least, between, positive, setting
from stator.settings.duration import Duration

FAILED = 1
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Longest time in seconds until a port that is in use is tried again, once.
BIND_RETRY_DELAY = 0.1
# Seconds between two looks whether the service answers yet; it takes a few hundred milliseconds to start.
READY_POLL = 0.01
# Seconds between two looks whether the roster has left.
LEFT_POLL = 0.02
# Seconds that gunicorn may take beyond its graceful timeout before it is killed.
GRACE = 2.0
# Seconds in which signals to stop count as one: timeout(1), say, sends its own to us and to our group.
SIGNAL_DEBOUNCE = 0.1
PR_SET_PDEATHSIG = 1
LOCAL = "127.0.0.1"


class Roster(Protocol):
    """What keeps the service registered."""

    def start(self) -> None:
        """Begins to register."""

    def stop(self) -> None:
        """Begins to unregister."""

    def wait_stopped(self, timeout: float) -> bool:
        """Waits for it to stop, for `timeout` seconds at most; returns whether it has."""


@frozen
class ServerConfig:
    """How the service listens."""

    host: str = setting("", desc="hostname or ip for which to bind; unset: all")
    port: int = setting(8087, desc="port on which to listen; 0: any that is free", check=between(0, 65535))
    timeout: Duration = setting(Duration.parse("10s"), desc="characteristic timeout", check=positive)
    workers: int = setting(1, desc="number of worker processes", check=at_least(1))

    def listen(self) -> socket.socket:
        """A socket that listens, so that a port in use is known before anything is started.

        Raises:
            StartError: The host is unknown or not ours, or the port is in use or not allowed.
        """
        try:
            family, address = _address(self.host, self.port)
            with suppress(OSError):
                return _listening(family, address)
            # The kernel may refuse both of two that begin at the same moment.
            time.sleep(random.uniform(0, BIND_RETRY_DELAY))  # noqa: S311
            return _listening(family, address)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "no such host"
            msg = f"can't listen on {self.host or '*'}:{self.port}: {reason}"
            raise StartError(msg) from error


def _address(host: str, port: int) -> tuple[int, Any]:
    """Family and address to bind; all addresses of IPv4 and IPv6 where no host is named, as Go does."""
    if host:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return family, address
    return (socket.AF_INET6, ("::", port)) if socket.has_dualstack_ipv6() else (socket.AF_INET, ("0.0.0.0", port))


def _listening(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        # Two sockets may be bound to one port, but only one may listen.
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def listening_address(listener: socket.socket) -> tuple[str, int]:
    """Host and port of a listening socket; the host is empty where it listens at all addresses."""
    host, port = listener.getsockname()[:2]
    return ("" if host in ("::", "0.0.0.0") else host), port


def is_serving(bound: tuple[str, int]) -> bool:
    """Whether the service answers /monitor within a second; it is bound to a host, empty for all, and a port."""
    host, port = bound[0] or LOCAL, bound[1]
    shown = f"[{host}]" if ":" in host else host
    return is_ready(f"http://{shown}:{port}/monitor")


def block_signals() -> set[signal.Signals]:
    """Holds back the signals that the supervisor waits for, until it does; they are returned.

    To be called before any thread starts, a collector's even: where one thread does not hold a signal back, the
    kernel ends the process by it.
    """
    # Whoever started us may have had it ignored; then nobody would tell us of the server's end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Not those that whoever started us wants ignored, as nohup does.
    held = {signal.SIGCHLD, *(each for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN)}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    return held


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
        load: Makes the ASGI application, with a method ``let_go``; called in the server's process.
        roster: What keeps the service registered.
        drain: Seconds between unregistering and stopping.
        processes: Where this process, the server's and its workers are entered.
        log: Where the story is told.
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
        self._where = listening_address(listener)
        self._server = 0
        self._server_status: int | None = None
        self._asked = -SIGNAL_DEBOUNCE

    def run(self) -> int:
        """Serves until a signal comes or gunicorn dies.

        Raises:
            StartError: There can be no process for the server.

        Returns:
            The exit status: 0 after a signal, 128 and its number after a second one, 1 where gunicorn died.
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
        # A group of its own, so that a terminal's Ctrl-C comes to us alone; set on both sides, whoever is first.
        os.setpgid(pid, pid)
        return pid

    def _serve(self, parent: int) -> NoReturn:
        """Becomes the server's process; never comes back to what the main process was doing."""
        status = FAILED
        try:
            os.setpgid(0, 0)
            _die_with(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals)
            from stator.server.arbiter import serve  # slow to import, and the main process needs none of it

            timeout = self._config.timeout.seconds
            serve(self._load, self._listener.detach(), self._config.workers, timeout, self._processes)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else FAILED
        except BaseException as error:  # noqa: BLE001 # whatever it is, this process ends here
            self._log.error("http service failed", error=error)
        finally:
            os._exit(status)

    def _wait_until_ready(self) -> None:
        """Waits until the service answers, and has the roster begin; not where it ended before."""
        while not is_serving(self._where):
            if not self._wait(READY_POLL):
                return
        host, port = self._where
        self._log.info("ready", address=f"{host or LOCAL}:{port}")
        self._roster.start()

    def _wait(self, seconds: float | None) -> bool:
        """Waits so long, or for ever.

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
            elif came is not None and not self._just_asked():
                raise _Stopped(signal.Signals(came.si_signo))
        return False

    def _just_asked(self) -> bool:
        """Whether a signal to stop is an echo of the last one that counted."""
        now = time.monotonic()
        if now - self._asked < SIGNAL_DEBOUNCE:
            return True
        self._asked = now
        return False

    def _reap(self) -> None:
        """Takes note of children that ended; as process 1 of a container we are given orphans too."""
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
        """Unregisters first, then waits for those who still come, then ends the server.

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
        """Ends what is left of the server: all of it, or workers whose arbiter is gone."""
        try:
            os.killpg(self._server, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._reap()


def _die_with(parent: int) -> None:
    """Has the kernel end this process when its parent ends without having ended it.

    https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    import ctypes  # slow to import

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
    if os.getppid() != parent:
        signal.raise_signal(signal.SIGQUIT)
