"""Reports to the service manager, which is systemd mostly, by its protocol for services of Type=notify."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Self

from attrs import define, field

from stator.settings.declare import StartError

_LOG = logging.getLogger(__name__)

SEND_TIMEOUT = 5.0  # seconds that a service manager may leave a message unread before it is dropped
LONGEST = 3600.0  # seconds between two messages that we are alive, whatever is asked
ALIVE_RETRY = 0.5  # longest wait in seconds until a service that did not answer is asked again


@define(eq=False, repr=False)
class ServiceManager:
    """Reports the service's state to the manager that started it; does nothing where there is none. Thread-safe."""

    # https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
    _address: str = ""  # of its socket: a path, or an abstract name that begins with a NUL
    watchdog: float = 0.0  # seconds within which it expects a message that we are alive; 0: it expects none
    _stopping: threading.Event = field(factory=threading.Event, init=False)
    _has_failed: bool = field(default=False, init=False)

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Self:
        """Returns the manager that the variables name, and removes them: no other process may report in our name."""
        # Gunicorn would report that it is ready, and with a status of its own.
        address = environ.pop("NOTIFY_SOCKET", "")
        seconds = _seconds(environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        # Others, such as vsock:, are for the managers of virtual machines.
        if address[:1] not in ("/", "@"):
            return cls()
        return cls("\0" + address[1:] if address[0] == "@" else address, seconds)

    def ready(self, is_alive: Callable[[], bool]) -> None:
        """Reports that the service has started, and from now on that it is alive; raises StartError if it can't."""
        self._send("READY=1")
        if not self.watchdog:
            return
        thread = threading.Thread(target=self._report_alive, args=(is_alive,), name="watchdog", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            msg = f"can't report to the watchdog: {error}"
            raise StartError(msg) from error

    def status(self, text: str) -> None:
        """Reports what state the service is in, for people: `systemctl status` shows it."""
        # A line of its own would be another message, such as READY=1.
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self) -> None:
        """Reports that the service stops."""
        self._stopping.set()
        self._send("STOPPING=1")

    def _report_alive(self, is_alive: Callable[[], bool]) -> None:
        was_alive = True
        while True:
            # A service that stops refuses clients in the end; the manager has another time limit for that.
            alive = self._stopping.is_set() or _answers(is_alive)
            if alive:
                self._send("WATCHDOG=1")
            elif was_alive:
                _LOG.warning("the service does not answer itself; its watchdog waits %g seconds", self.watchdog)
            was_alive = alive
            # Half of the time, as sd_watchdog_enabled(3) recommends.
            time.sleep(self.watchdog / 2 if alive else min(ALIVE_RETRY, self.watchdog / 10))

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            # A new socket each time: the manager may have been replaced, and listen at the same path again.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(SEND_TIMEOUT)
                sender.sendto(message.encode(errors="replace"), self._address)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _LOG.warning("can't report to the service manager: %s", error)


def _answers(is_alive: Callable[[], bool]) -> bool:
    """Returns whether the service answers; one that can't be asked, as without memory for a moment, does not."""
    try:
        return is_alive()
    except Exception as error:  # noqa: BLE001 # whatever it is, the next try may succeed
        _LOG.warning("failed to ask the service whether it answers: %s", error)
        return False


def _seconds(microseconds: str, pid: str) -> float:
    """Returns the watchdog's time, if it is this process that it watches."""
    if pid and pid != str(os.getpid()):
        return 0.0
    return min(int(microseconds) / 1e6, LONGEST) if microseconds.isascii() and microseconds.isdigit() else 0.0
