"""One collector, and how it's asked: by one round at a time, and not while it's stuck."""

import threading
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from msgspec.structs import replace

from stator.points import Collector, NonBlockingCollector, PointsAt

# A collector that takes longer than this, in seconds, and than so many times its last, is taken to be stuck.
STUCK_AFTER, STUCK_TIMES = 1.0, 3


class CollectionTimeout(Exception):  # noqa: N818 # not the collector's own error
    """A collector was not asked, or did not answer in time; the message says why."""


class Outcome(NamedTuple):
    """How one collector fared.

    Attributes:
        seconds: Time that it took.
        points_at: What it gave, or None where it failed.
        error: Why it failed, or None.
    """

    seconds: float
    points_at: PointsAt | None = None
    error: BaseException | None = None


class SingleFlight:
    """A collector that is never asked twice at the same time; those who wait for it share what it gives next.

    Args:
        collector: What is asked.
        clock: Seconds that only go up.
        stuck_after: Seconds after which it may be taken to be stuck.
    """

    def __init__(self, collector: Collector, clock: Callable[[], float], *, stuck_after: float = STUCK_AFTER) -> None:
        self._collector, self._clock, self._stuck_after = collector, clock, stuck_after
        self._prompt = collector if isinstance(collector, NonBlockingCollector) else None
        self._free = threading.Lock()
        self._lock = threading.Lock()
        self._waiting = 0
        self._since = self._took = 0.0
        # For ever, as long as nobody asks it.
        self._stuck_at = inf
        # Kept only for those who wait.
        self._last: Outcome | None = None

    def is_nonblocking(self) -> bool:
        """Whether the collector says that it would answer at once."""
        return self._prompt is not None and self._prompt.is_nonblocking()

    def collect(self, now: float, deadline: float) -> Outcome:
        """Asks the collector; waits where it's still at work for another round, but not if it's stuck there."""
        if self._free.acquire(blocking=False):
            return self._ask(now, deadline)
        came = self._clock()
        with self._lock:
            self._waiting += 1
        is_free = self._wait(deadline)
        with self._lock:
            self._waiting -= 1
        if not is_free:
            reason = f"still at work for an earlier request, since {self._clock() - self._since:.1f} s"
            return Outcome(self._clock() - came, error=CollectionTimeout(reason))
        if self._last is None or self._since <= came:
            return self._ask(now, deadline)
        return self._share(self._last)

    def _wait(self, deadline: float) -> bool:
        """Waits for its turn; tells whether that came."""
        while True:
            until = min(deadline, self._stuck_at)
            # Whoever asks it may change meanwhile: look again.
            if self._free.acquire(timeout=min(max(0.0, until - self._clock()), STUCK_AFTER)):
                return True
            if self._clock() >= min(deadline, self._stuck_at):
                return False

    def _ask(self, now: float, deadline: float) -> Outcome:
        self._since = self._clock()
        self._stuck_at = self._since + max(self._stuck_after, STUCK_TIMES * self._took)
        try:
            points_at, error = _checked(self._collector.collect(now)), None
        except BaseException as raised:  # noqa: BLE001 # a collector is anybody's code: one must not take down the rest
            points_at, error = None, raised
        ended = self._clock()
        outcome = Outcome(ended - self._since, points_at, error)
        # One that came too late was stuck: that is no measure for the next time.
        self._took = outcome.seconds if ended < deadline else 0.0
        return self._share(outcome)

    def _share(self, outcome: Outcome) -> Outcome:
        """Leaves an outcome to those who waited while it was collected, and lets go."""
        self._last = outcome if self._waiting else None
        self._stuck_at = inf
        self._free.release()
        return outcome


def _checked(points_at: object) -> PointsAt:
    if not isinstance(points_at, PointsAt):
        msg = f"collect() gave {points_at!r}, which is no PointsAt"
        raise TypeError(msg)
    if type(points_at.points) in (list, tuple):
        return points_at
    # They are made while they are taken, which is part of the work.
    return replace(points_at, points=list(points_at.points))
