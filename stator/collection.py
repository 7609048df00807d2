"""Asks collectors, which may be slow, stuck or broken, without waiting for them longer than a scrape can.

A round's collectors run one after another in one thread, since most take microseconds. When that takes longer than it
should, each that is left gets a thread of its own. One that is still stuck when time is up is left behind with its
thread, and is not started again before it has come back. Where all of them say that they never wait, they run at once,
in the thread that asks: handing over to another takes longer than they do.
"""

import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from math import inf
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from msgspec.structs import replace

from stator.entity import PointsAt

A = TypeVar("A")
# A collector that takes longer than this, in seconds, and than so many times its last, is taken to be stuck.
STUCK_AFTER, STUCK_TIMES = 1.0, 3
# Threads that are kept for the next round.
IDLE_THREADS = 2


class Collector(Protocol):
    """What gives points."""

    def collect(self, now: float) -> PointsAt:
        """Points as they are now, in Unix seconds; raises on failure."""


@runtime_checkable
class Prompt(Collector, Protocol):
    """A collector that knows whether it may have to wait."""

    def never_waits(self) -> bool:
        """Whether it would answer within microseconds now, whatever happens elsewhere; raises nothing."""


class NotCollected(Exception):  # noqa: N818 # not the collector's own error
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


class Crew:
    """Runs functions in threads that do not keep the process alive, and that are used again."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def run(self, function: Callable[[], object]) -> None:
        """Has an idle thread, or a new one, run a function that raises nothing."""
        with self._lock:
            is_idle = self._idle > 0
            self._idle -= is_idle
        if is_idle:
            self._work.put(function)
        else:
            threading.Thread(target=self._serve, args=(function,), name="collecting", daemon=True).start()

    def _serve(self, function: Callable[[], object]) -> None:
        while True:
            function()
            with self._lock:
                if self._idle == IDLE_THREADS:
                    return
                self._idle += 1
            function = self._work.get()


class Station:
    """A collector that is never asked twice at the same time; those who wait for it share what it gives next.

    Args:
        collector: What is asked.
        clock: Seconds that only go up.
        stuck_after: Seconds after which it may be taken to be stuck.
    """

    def __init__(self, collector: Collector, clock: Callable[[], float], *, stuck_after: float = STUCK_AFTER) -> None:
        self._collector, self._clock, self._stuck_after = collector, clock, stuck_after
        self._prompt = collector if isinstance(collector, Prompt) else None
        self._free = threading.Lock()
        self._lock = threading.Lock()
        self._waiting = 0
        self._since = self._took = 0.0
        # For ever, as long as nobody asks it.
        self._stuck_at = inf
        # Kept only for those who wait.
        self._last: Outcome | None = None

    def never_waits(self) -> bool:
        """Whether the collector says that it would answer at once."""
        return self._prompt is not None and self._prompt.never_waits()

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
            return Outcome(self._clock() - came, error=NotCollected(reason))
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
    if isinstance(points_at.points, list | tuple):
        return points_at
    # They are made while they are taken, which is part of the work.
    return replace(points_at, points=list(points_at.points))


class Round(Generic[A]):
    """One collection from some collectors, for all who asked before it began.

    Args:
        stations: The collectors by name.
        now: Gives Unix time in seconds.
        clock: Gives seconds that only go up.
        timeout: Seconds that the collectors may take.
        crew: What runs them.
        finish: Makes the answer of the outcomes and the time of the round.
        is_brief: Whether that takes microseconds; otherwise it's called in one of the crew's threads.
        let_go: Called when others need no longer wait for this round: when it's over, or takes long; begins it if
            that was not done yet.

    Attributes:
        answer: Resolves to what `finish` made.
    """

    def __init__(
        self,
        stations: Mapping[str, Station],
        timeout: float,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        crew: Crew,
        finish: Callable[[dict[str, Outcome], float], A],
        is_brief: Callable[[Iterable[Outcome]], bool],
        let_go: Callable[["Round[A]"], None],
    ) -> None:
        self._stations, self._timeout, self._crew = stations, timeout, crew
        self._finish, self._is_brief, self._let_go = finish, is_brief, let_go
        self._now, self._clock = now, clock
        self._stamp = self._start = 0.0
        self._left = deque(stations)
        self._outcomes: dict[str, Outcome] = {}
        self._lock = threading.Lock()
        self._ended = self._hurried = False
        # What is logged on the way belongs to the request that the round was made for.
        self._context = contextvars.copy_context()
        self.answer: Future[A] = Future()
        # Nobody can take it away from the others.
        self.answer.set_running_or_notify_cancel()

    def begin(self) -> None:
        """Starts to ask; where nothing has to be waited for, or nothing can be, it's over when this returns."""
        self._stamp, self._start = self._now(), self._clock()
        try:
            if not all(station.never_waits() for station in self._stations.values()):
                self._run(self._work)
            elif self._is_asked():
                if self._is_brief(self._outcomes.values()):
                    self._end()
                else:
                    self._run(self._end)
        except Exception as error:  # noqa: BLE001 # no thread could be started, say: whoever waits is told
            self._fail(error)

    def wait(self, patience: float, timeout: float) -> A:
        """Blocks until the answer is there: hurries after so many seconds, and closes after so many."""
        patience = min(patience, timeout)
        for seconds, go_on in ((patience, self.hurry), (timeout - patience, self.close)):
            try:
                return self.answer.result(seconds)
            except TimeoutError:
                go_on()
        return self.answer.result()

    def hurry(self) -> None:
        """Has each collector that waits for another be asked at once."""
        self._let_go(self)
        with self._lock:
            left = 0 if self._hurried else len(self._left)
            self._hurried = True
        with suppress(RuntimeError):  # where no thread can be started, the one that is at work goes on alone
            for _ in range(left):
                self._run(self._work)

    def close(self) -> None:
        """Ends it with what there is: collectors that have not answered have failed."""
        self._let_go(self)
        error = NotCollected("it did not answer in time")
        outcome = Outcome(self._clock() - self._start, error=error)
        with self._lock:
            missing = dict.fromkeys(self._stations.keys() - self._outcomes.keys(), outcome)
            self._left.clear()
        if self._settle(missing):
            try:
                self._run(self._end)
            except RuntimeError:  # no thread can be started
                self._end()

    def _run(self, function: Callable[[], None]) -> None:
        context = self._context.copy()  # one context can't be in two threads
        self._crew.run(partial(context.run, function))

    def _work(self) -> None:
        if self._is_asked():
            self._end()

    def _is_asked(self) -> bool:
        """Asks those that are left, and tells whether that completed the round."""
        while True:
            try:
                name = self._left.popleft()
            except IndexError:
                return not self._stations and self._settle({})
            outcome = self._stations[name].collect(self._stamp, self._start + self._timeout)
            if self._settle({name: outcome}):
                return True

    def _settle(self, outcomes: Mapping[str, Outcome]) -> bool:
        """Takes outcomes that are not there yet; tells, once, whether all are."""
        with self._lock:
            if self._ended:
                return False
            self._outcomes = {**outcomes, **self._outcomes}
            self._ended = len(self._outcomes) == len(self._stations)
            return self._ended

    def _fail(self, error: Exception) -> None:
        """Ends it before it has begun."""
        with self._lock:
            self._ended = True
            self._left.clear()
        self.answer.set_exception(error)
        self._let_go(self)

    def _end(self) -> None:
        try:
            ordered = {name: self._outcomes[name] for name in self._stations}
            self.answer.set_result(self._finish(ordered, self._stamp))
        except BaseException as error:  # noqa: BLE001 # whoever waits is told
            self.answer.set_exception(error)
        self._let_go(self)
