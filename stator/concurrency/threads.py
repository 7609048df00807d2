"""Daemon threads that are reused."""

import queue
import threading
from collections.abc import Callable

# Seconds that a thread without work waits for more before it ends.
IDLE_TIMEOUT = 1.0


class DaemonThreads:
    """Runs functions in threads that do not keep the process alive, and that end when they have been idle for a while.

    Args:
        idle_timeout: Seconds after which an idle thread ends.
    """

    def __init__(self, idle_timeout: float = IDLE_TIMEOUT) -> None:
        self._idle_timeout = idle_timeout
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        # Idle threads that have no work in the queue yet.
        self._idle = 0

    def run(self, function: Callable[[], object]) -> None:
        """Runs a function, which must not raise, in an idle thread or in a new one.

        Raises:
            RuntimeError: No thread can be started.
        """
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._work.put(function)
                return
        # In a list that the thread empties: a Thread keeps its arguments for as long as it lives.
        threading.Thread(target=self._serve, args=([function],), name="stator", daemon=True).start()

    def _serve(self, work: list[Callable[[], object]]) -> None:
        while work:
            work.pop()()
            work = self._more_work()

    def _more_work(self) -> list[Callable[[], object]]:
        """The next function, or nothing where none came in time."""
        with self._lock:
            self._idle += 1
        try:
            return [self._work.get(timeout=self._idle_timeout)]
        except queue.Empty:
            with self._lock:
                # `run` may have counted on this thread in the meantime.
                try:
                    return [self._work.get_nowait()]
                except queue.Empty:
                    self._idle -= 1
                    return []
