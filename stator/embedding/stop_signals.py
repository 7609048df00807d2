"""Delays a server's stop signals until the service is unregistered."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

DELAYED = (signal.SIGTERM, signal.SIGINT)
# Seconds in which stop signals count as one: timeout(1), for example, sends its own to a process and to its group.
DEBOUNCE = 0.1
# Event loops call the handlers of `loop.add_signal_handler` by themselves.
EVENT_LOOPS = ("asyncio", "uvloop")


class StopSignals:
    """Calls a function, which must not raise, before a server's own handler of SIGTERM or SIGINT in Python."""

    def __init__(self, before: Callable[[], object]) -> None:
        self._before = before
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._first_at: float | None = None
        self._is_over = False

    def delay(self) -> None:
        """Begins to delay the signals; does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._first_at, self._is_over = None, False
        for each in DELAYED:
            handler = signal.getsignal(each)
            package = str(getattr(handler, "__module__", "")).split(".")[0]
            is_left_alone = handler in (signal.default_int_handler, self._handle) or package in EVENT_LOOPS
            if callable(handler) and not is_left_alone:
                self._handlers[each] = handler
                signal.signal(each, self._handle)

    def restore(self) -> None:
        """Gives the server its handlers back, unless a signal is being delayed; only in the main thread."""
        if threading.current_thread() is threading.main_thread() and self._first_at is None:
            for number, handler in self._handlers.items():
                if signal.getsignal(number) == self._handle:
                    signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._first_at is None:
            self._first_at = time.monotonic()
            if _has_event_loop():  # which goes on to answer; a process that forks must have no thread of ours
                threading.Thread(target=self._call_and_repeat, args=(number,), name="unregister", daemon=True).start()
                return
            with suppress(_Repeated):
                self._before()
                self._is_over = True
        elif not self._is_over:
            if time.monotonic() - self._first_at <= DEBOUNCE:
                return
            self._is_over = True
            if not _has_event_loop():
                raise _Repeated
        self._handlers[number](number, frame)

    def _call_and_repeat(self, number: int) -> None:
        self._before()
        if not self._is_over:
            self._is_over = True
            os.kill(os.getpid(), number)


class _Repeated(BaseException):
    """A second signal ends the wait of the first one's handler."""


def _has_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
