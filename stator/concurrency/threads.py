"""Daemon threads that are reused."""

import queue
import threading
from collections.abc import Callable


class DaemonThreads:
    """Runs functions in threads that do not keep the process alive, and that end after `idle_timeout` idle seconds."""

    def __init__(self, idle_timeout: float = 1.0) -> None:
        self._idle_timeout = idle_timeout
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that wait for work, less the functions in the queue

    def run(self, function: Callable[[], object]) -> None:
        """Runs a function, which must not raise, in a thread; raises RuntimeError where none can be started."""
        with self._lock:
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._serve, name="stator", daemon=True).start()
            self._work.put(function)

    def _serve(self) -> None:
        while True:
            try:
                self._work.get(timeout=self._idle_timeout)()
            except queue.Empty:
                with self._lock:
                    if self._idle:  # otherwise `run` has counted on this thread in the meantime
                        self._idle -= 1
                        return
            else:
                with self._lock:
                    self._idle += 1
