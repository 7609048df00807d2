"""Registers an application with the discovery service for as long as it serves."""

import threading
import time
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import Self

from stator.embedding.membership import Membership
from stator.log.logger import Log
from stator.roster.roster import Roster

# Seconds between two requests for /monitor, and after which a warning says that none has been answered with 200.
READY_POLL = 0.1
READY_LATE = 10.0
# Longest seconds of one wait for the roster to stop.
STOP_POLL = 0.1


class Registration:
    """Registers a service once it answers, and unregisters it at the end; a context, or `start` and `stop`.

    `stator.Stator.registered` makes it. An object can be started once.

    Args:
        roster: Keeps the service registered.
        membership: This process among those that serve the same service.
        is_ready: Whether the service answers.
        log: Where progress is logged.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        roster: Roster,
        membership: Membership,
        is_ready: Callable[[], bool],
        log: Log,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster, self._membership, self._is_ready, self._log = roster, membership, is_ready, log
        self._clock = clock
        self._stopping = threading.Event()
        self._registering = False
        self._thread = threading.Thread(target=self._register, name="registration", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts a thread that waits for the service and registers it; returns at once.

        Raises:
            RuntimeError: It was started before.
        """
        self._thread.start()

    def stop(self) -> None:
        """Unregisters the service, unless other processes still serve it; blocks for some seconds at most.

        Does nothing where the registration was never started, or is stopped already.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self._registering:
            return
        stays = not self._membership.is_last()
        if stays:
            self._log.info("staying registered: other processes serve")
        self._roster.stop(stay=stays)
        while not self._roster.wait_stopped(STOP_POLL):
            pass
        self._membership.leave()

    def _register(self) -> None:
        if self._wait_until_ready():
            try:
                self._membership.join()
            except OSError as error:
                self._log.warning("can't tell whether other workers are serving; unregistering anyway", error=error)
            self._roster.start()
            self._registering = True

    def _wait_until_ready(self) -> bool:
        """Waits until the service answers; returns False where `stop` was called before that."""
        late = self._clock() + READY_LATE
        while not self._is_ready():
            if self._stopping.wait(READY_POLL):
                return False
            if self._clock() >= late:
                late = inf
                self._log.warning("not registered yet: /monitor does not answer 200", waited=f"{READY_LATE:g}s")
        return not self._stopping.is_set()
