"""Being registered for as long as a service runs that somebody else starts and stops."""

import threading
import time
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import Self

from stator.embedding.membership import Membership
from stator.log.logger import Log
from stator.roster.roster import Roster

# Seconds between two looks whether the service answers yet, and after which the log tells that it does not.
POLL = 0.1
LATE = 10.0
# Seconds between two looks whether the roster has left.
LEFT_POLL = 0.1


class Registration:
    """Registers a service once it answers, and unregisters it in the end; as a context, or by `start` and `stop`.

    Args:
        roster: What keeps it registered.
        presence: This process among those that serve the same.
        is_ready: Whether the service answers.
        log: Where the story is told.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        roster: Roster,
        presence: Membership,
        is_ready: Callable[[], bool],
        log: Log,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._roster, self._presence, self._is_ready, self._log = roster, presence, is_ready, log
        self._clock = clock
        self._leaving = threading.Event()
        self._started = False
        self._thread = threading.Thread(target=self._begin, name="registration", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begins to wait for the service, in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Unregisters the service, unless other processes still serve; blocks for a few seconds at most."""
        self._leaving.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self._started:
            return
        stays = not self._presence.is_last()
        if stays:
            self._log.info("staying registered: other processes serve")
        self._roster.stop(stay=stays)
        while not self._roster.left(LEFT_POLL):
            pass
        self._presence.leave()

    def _begin(self) -> None:
        if self._wait_until_ready():
            try:
                self._presence.come()
            except OSError as error:
                self._log.warning("can't tell whether other processes serve, leaving for all of them", error=error)
            self._roster.start()
            self._started = True

    def _wait_until_ready(self) -> bool:
        """Waits until the service answers; tells whether it did before we were to leave."""
        late = self._clock() + LATE
        while not self._is_ready():
            if self._leaving.wait(POLL):
                return False
            if self._clock() >= late:
                late = inf
                self._log.warning("not registered yet: /monitor does not answer 200", waited=f"{LATE:g}s")
        return not self._leaving.is_set()
