"""Asks filesystems how full they are, and waits for none that hangs.

A dead network filesystem can hold whoever asks it for ever. So they are asked by threads: by one, which is kept, as
long as answers come; by more, twice as many each time, while they stay away. A filesystem that does not answer in time
keeps its thread, and is not asked again before that is back.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

Figures: TypeAlias = os.statvfs_result | OSError
"""What a filesystem says of itself, or why it doesn't."""

# Seconds after which more threads take part.
PATIENCE = 0.05
# Threads that there can be at once, those that hang among them.
MOST_THREADS = 64


class StatvfsPool:
    """Asks filesystems, for one caller at a time.

    Args:
        statvfs: Asks one, by its path.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        statvfs: Callable[[bytes], os.statvfs_result] = os.statvfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._statvfs, self._clock = statvfs, clock
        self._lock = threading.Lock()
        self._rounds: queue.SimpleQueue[_Round] = queue.SimpleQueue()
        self._threads = self._idle = 0
        self._asked: set[bytes] = set()

    def ask(self, paths: Iterable[bytes], timeout: float) -> dict[bytes, Figures]:
        """What filesystems say within so many seconds, by their paths; those that hang are missing."""
        with self._lock:
            round_ = _Round(path for path in paths if path not in self._asked)
        deadline = self._clock() + timeout
        more = 1
        while round_.missing:
            self._send(round_, more)
            left = deadline - self._clock()
            # Where all threads there can be hang, there is nothing to wait for.
            if not round_.served or round_.over.wait(max(0.0, min(PATIENCE, left))) or left <= PATIENCE:
                break
            more *= 2
        with self._lock:
            round_.todo.clear()
            return dict(round_.answers)

    def _send(self, round_: "_Round", most: int) -> None:
        """Has up to so many more threads take part."""
        with self._lock:
            count = min(most, len(round_.todo), MOST_THREADS - self._threads + self._idle)
            woken = min(count, self._idle)
            self._idle -= woken
            self._threads += count - woken
            round_.served = round_.served or count > 0
        for _ in range(woken):
            self._rounds.put(round_)
        for _ in range(count - woken):
            threading.Thread(target=self._serve, args=(round_,), name="asking filesystems", daemon=True).start()

    def _serve(self, round_: "_Round") -> None:
        while True:
            self._work(round_)
            with self._lock:
                if self._idle:
                    self._threads -= 1
                    return
                self._idle += 1
            round_ = self._rounds.get()

    def _work(self, round_: "_Round") -> None:
        while True:
            with self._lock:
                if not round_.todo:
                    return
                path = round_.todo.popleft()
                self._asked.add(path)
            try:
                figures: Figures = self._statvfs(path)
            except OSError as error:
                figures = error
            with self._lock:
                self._asked.remove(path)
                round_.answers[path] = figures
                round_.missing -= 1
            if not round_.missing:
                round_.over.set()


class _Round:
    """Filesystems that are asked at one time, and what they said so far."""

    def __init__(self, paths: Iterable[bytes]) -> None:
        self.todo = deque(paths)
        self.missing = len(self.todo)
        self.answers: dict[bytes, Figures] = {}
        self.served = False
        self.over = threading.Event()
