"""Limits the requests of all clients together, whichever process of the service answers them."""

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

_TIME = struct.Struct("d")


class RateLimit(NamedTuple):
    """Requests come one in `interval` seconds on average, and `burst` of them at once."""

    interval: float
    burst: int


class TokenBucket:
    """Counts the requests of this process and of all that are forked from it. Thread-safe.

    In place of tokens it keeps the time at which the bucket is full again, a single number:
    https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes what returns a time in seconds, the same in all processes."""
        self._clock, self._memory = clock, mmap.mmap(-1, _TIME.size)
        # The kernel takes a lock on a file away from a process that is killed; it counts for a process, not a thread.
        self._file, self._threads = os.memfd_create("stator-rate"), threading.Lock()

    def take(self, limit: RateLimit) -> bool:
        """Returns whether one more request is within the limit, and counts it then."""
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                return self._take(limit)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _take(self, limit: RateLimit) -> bool:
        now = self._clock()
        # Under another limit, which has changed since, it may have been far in the future.
        full = min(max(_TIME.unpack_from(self._memory)[0], now), now + limit.burst * limit.interval)
        is_within: bool = full + limit.interval <= now + limit.burst * limit.interval + 1e-9
        _TIME.pack_into(self._memory, 0, full + limit.interval if is_within else full)
        return is_within

    def __del__(self) -> None:
        os.close(self._file)
