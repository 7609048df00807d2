"""Many calls with one deadline: what has not returned in time has failed."""

import operator
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from stator.concurrency.single_flight import Outcome, SingleFlight

K = TypeVar("K")
T = TypeVar("T")


def gather(
    flights: SingleFlight[K, T], calls: Mapping[K, Callable[[], T]], timeout: float, inline: Collection[K] = ()
) -> dict[K, Outcome[T]]:
    """Makes calls at the same time, each in a thread; those that take longer than `timeout` seconds fail, but go on."""
    # Functions whose keys are in `inline` never block: they are called in this thread, after the others have begun.
    deadline = time.monotonic() + timeout
    begun = {
        key: flights.submit(key, calls[key], deadline, operator.call if key in inline else None)
        for key in sorted(calls, key=lambda key: key in inline)
    }
    return {key: begun[key].outcome(deadline) for key in calls}
