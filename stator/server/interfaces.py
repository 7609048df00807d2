"""What the supervisor needs of what runs beside the server."""

from collections.abc import Collection
from resource import struct_rusage
from typing import Protocol


class Roster(Protocol):
    """Keeps the service registered."""

    def start(self) -> None:
        """Begins to register."""

    def stop(self) -> None:
        """Begins to unregister."""

    def wait_stopped(self, timeout: float) -> bool:
        """Waits for it to stop, for `timeout` seconds at most; returns whether it has."""


class Control(Protocol):
    """Does what signals ask for that don't stop the service."""

    def reload(self) -> object:
        """Reads files again, in any process."""

    def prepare_server(self) -> None:
        """Prepares the server's process before it gets signals, and its workers with it."""

    def handle(self, number: int, server: int | None) -> None:
        """Handles a signal of the main process; `server` is the server's process, None if it has ended."""

    def publish(self, **fields: object) -> None:
        """Shows what has become of the service."""


class Program(Protocol):
    """A program that is run beside the server."""

    start_timeout: float  # seconds until it must be healthy
    stop_timeout: float  # seconds after which it is killed

    @property
    def pid(self) -> int:
        """Its process id; 0 before it is started."""

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""

    def start(self, server: int) -> None:
        """Starts it, beside the server's process; raises StartError."""

    def is_healthy(self) -> bool:
        """Whether it can be registered."""

    def reaped(self, pid: int, wait_status: int, usage: struct_rusage) -> None:
        """Takes what `wait4` reports of a process that has ended, other than the server's."""

    def send(self, number: int) -> bool:
        """Sends it a signal; returns False if we may not."""

    def ask_to_stop(self) -> None:
        """Sends it the signal that asks it to stop."""

    def rest(self, without: int) -> Collection[object]:
        """Returns what has run on of it, but not another process and what that has started."""

    def kill(self, without: int) -> None:
        """Kills it, and all that it has left running, but not another process and what that has started."""
