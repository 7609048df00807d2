"""Warnings of which many may come at once, as from a client that tries again and again."""

import asyncio
import logging
from contextvars import copy_context

INTERVAL = 1.0  # seconds within which the same message is logged once
MOST = 20  # different messages within that time; of further ones, only the number is logged


class CountedLog:
    """Logs each message once a second at most, with how often it came, in an event loop."""

    def __init__(self, log: logging.Logger) -> None:
        self._log, self._counts, self._others = log, dict[str, int](), 0
        self._context = copy_context()  # not that of the request that is the first

    def warning(self, message: str) -> None:
        """Logs a message within a second."""
        if not self._counts:
            asyncio.get_running_loop().call_later(INTERVAL, self.flush, context=self._context)
        if message in self._counts or len(self._counts) < MOST:
            self._counts[message] = self._counts.get(message, 0) + 1
        else:
            self._others += 1

    def flush(self) -> None:
        """Logs what has come."""
        counts, others, self._counts, self._others = self._counts, self._others, {}, 0
        for message, count in counts.items():
            self._log.warning("%s%s", message, f" ({count} times)" if count > 1 else "")
        if others:
            self._log.warning("further warnings of this kind within a second: %d", others)
