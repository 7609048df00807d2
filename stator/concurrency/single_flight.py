"""At most one call at a time: those who come meanwhile share the next one, and nobody waits for one that is stuck."""

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from attrs import define

K = TypeVar("K")
T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[], object]], object]
"""Runs a function that raises nothing, here or elsewhere; raises RuntimeError if it can't."""


class CollectionTimeout(Exception):  # noqa: N818 # not the called function's own error
    """A call did not return in time, or was not made since an earlier one has been stuck, for ``stuck`` seconds."""

    def __init__(self, stuck: float = 0.0) -> None:
        super().__init__("it did not answer in time")
        self.stuck = stuck


class Outcome(NamedTuple, Generic[T]):
    """What a call returned or raised, and how long it took."""

    seconds: float
    value: T | None = None
    error: BaseException | None = None

    def unwrap(self) -> T:
        """Returns the value, or raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value] # None only where T is


@define(eq=False)
class Call(Generic[T]):
    """A call that several may wait for; one that goes on beyond its deadline, when the last gives up, is stuck."""

    function: Callable[[], T]
    deadline: float
    lock: threading.Lock  # held while it ends
    began: float | None = None
    earlier: "Call[T] | None" = None  # it must end before this one begins
    next: "Call[T] | None" = None  # it begins when this one ends
    result: Outcome[T] | None = None  # once it has ended
    awaited: "Future[Outcome[T]] | None" = None  # for those who wait, since making it takes longer than many a call

    @property
    def future(self) -> "Future[Outcome[T]]":
        """What those who wait share."""
        with self.lock:
            if self.awaited is None:
                self.awaited = Future()
                self.awaited.set_running_or_notify_cancel()  # so that none of them can cancel it for the others
                if self.result is not None:
                    self.awaited.set_result(self.result)
            return self.awaited

    def wait(self) -> Outcome[T]:
        """Waits for the outcome."""
        return self.result or self.future.result()

    def outcome(self, deadline: float) -> Outcome[T]:
        """Waits for the outcome, until a time of `time.monotonic` or until the earlier call is known to be stuck."""
        if self.result is not None:
            return self.result
        came = time.monotonic()
        earlier = self.earlier
        for until in (earlier.deadline, deadline) if earlier else (deadline,):
            try:
                return self.future.result(max(0.0, min(until, deadline) - time.monotonic()))
            except TimeoutError:
                if self.earlier:
                    return Outcome(time.monotonic() - came, error=_stuck(self.earlier))
        return Outcome(time.monotonic() - came, error=CollectionTimeout())


class SingleFlight(Generic[K, T]):
    """Makes at most one call at a time for each key; those who ask while one is at work share the next one.

    A call that goes on when nobody waits for it any more is stuck: until it returns, those who ask for its key fail.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._running: dict[K, Call[T]] = {}

    def submit(self, key: K, function: Callable[[], T], deadline: float, run: Run | None = None) -> Call[T]:
        """Returns the next call for a key, in the caller's context; begins it, by `run`, if none is at work."""
        call = Call(partial(contextvars.copy_context().run, function), deadline, self._lock)
        with self._lock:
            running = self._running.setdefault(key, call)
            if running is not call:
                return self._following(running, call)
        self._begin(key, call, run or self._run)
        return call

    def _following(self, running: Call[T], call: Call[T]) -> Call[T]:
        """Returns the call that has not begun yet, which is a new one only where there is none."""
        following = running.next or call
        if running.began is None:
            following = running
        elif time.monotonic() >= running.deadline:
            call.result = Outcome(0.0, error=_stuck(running))
            return call
        elif following is call:
            running.next, call.earlier = call, running
        following.deadline = max(following.deadline, call.deadline)
        return following

    def _begin(self, key: K, call: Call[T], run: Run) -> None:
        try:
            run(partial(self._make, key, call))
        except RuntimeError as error:  # no thread can be started
            self._end(key, call, Outcome(0.0, error=error))

    def _make(self, key: K, call: Call[T]) -> None:
        with self._lock:
            began = call.began = time.monotonic()
        outcome: Outcome[T] = Outcome(0.0, error=CollectionTimeout())
        if began < call.deadline:
            try:
                value = call.function()
                outcome = Outcome(time.monotonic() - began, value)
            except BaseException as error:  # noqa: BLE001 # whatever it raises is for those who wait
                outcome = Outcome(time.monotonic() - began, error=error)
        self._end(key, call, outcome)

    def _end(self, key: K, call: Call[T], outcome: Outcome[T]) -> None:
        with self._lock:
            following = call.next
            if following is None:
                del self._running[key]
            else:
                self._running[key], following.earlier = following, None
            call.result, awaited = outcome, call.awaited
        if awaited is not None:
            awaited.set_result(outcome)
        if following is not None:
            self._begin(key, following, self._run)


def _stuck(call: Call[T]) -> CollectionTimeout:
    return CollectionTimeout(time.monotonic() - (call.began or 0.0))
