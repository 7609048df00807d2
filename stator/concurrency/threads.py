"""Daemon threads that are reused."""

import queue
import threading
from collections.abc import Callable

# Threads that are kept for the next round.
IDLE_THREADS = 2


class DaemonThreads:
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
        if not is_idle:
            threading.Thread(target=self._serve, name="collecting", daemon=True).start()
        self._work.put(function)

    def _serve(self) -> None:
        while True:
            self._work.get()()  # not kept while it waits for the next: a round holds all that was collected
            with self._lock:
                if self._idle == IDLE_THREADS:
                    return
                self._idle += 1
