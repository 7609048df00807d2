"""Many calls with one deadline: what has not returned in time has failed."""

import operator
import time
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from math import inf
from typing import TypeVar

from stator.concurrency.single_flight import Outcome, SingleFlight

K = TypeVar("K")
T = TypeVar("T")
# When those who wait for the current call give up, by `time.monotonic`.
_DEADLINE: ContextVar[float] = ContextVar("stator.deadline", default=inf)


def time_left() -> float:
    """Returns the seconds after which nobody waits for the current call any more; infinity outside of `gather`."""
    return _DEADLINE.get() - time.monotonic()


def gather(
    flights: SingleFlight[K, T], calls: Mapping[K, Callable[[], T]], timeout: float, inline: Collection[K] = ()
) -> dict[K, Outcome[T]]:
    """Makes calls at the same time, each in a thread; those that take longer than `timeout` seconds fail, but go on."""
    # Functions whose keys are in `inline` never block: they are called in this thread, after the others have begun.
    deadline = time.monotonic() + timeout
    before = _DEADLINE.set(deadline)  # each call has a copy of this context
    try:
        begun = {
            key: flights.submit(key, calls[key], deadline, operator.call if key in inline else None)
            for key in sorted(calls, key=lambda key: key in inline)
        }
    finally:
        _DEADLINE.reset(before)
    return {key: begun[key].outcome(deadline) for key in calls}
