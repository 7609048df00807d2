"""Asks collectors, which may be slow, stuck or broken, without waiting for them longer than a scrape can.

A round's collectors run one after another in one thread, since most take microseconds. When that takes longer than it
should, each that is left gets a thread of its own. One that is still stuck when time is up is left behind with its
thread, and is not started again before it has come back. Where all of them say that they never wait, they run at once,
in the thread that asks: handing over to another takes longer than they do.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from stator.concurrency.single_flight import CollectionTimeout, Outcome, SingleFlight
from stator.concurrency.threads import DaemonThreads

A = TypeVar("A")


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
        stations: Mapping[str, SingleFlight],
        timeout: float,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        crew: DaemonThreads,
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
            if not all(station.is_nonblocking() for station in self._stations.values()):
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
        error = CollectionTimeout("it did not answer in time")
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
