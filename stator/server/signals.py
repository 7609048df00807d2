"""Signals: which ask to stop, which are ignored, and what ends a process with its parent."""

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType

from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.processes.signal_stack import widen_signal_stack

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# Those by which a running service is controlled.
CONTROL_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, LEVEL_SIGNAL, STACKS_SIGNAL)
# What else would end a process that has no use for it: `logrotate` sends SIGUSR1 to reopen logs, timers send SIGALRM.
# Not those that report a fault or a limit, such as SIGSEGV and SIGXCPU.
IGNORED_SIGNALS = (
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO),
    *(signal.SIGPWR, signal.SIGSTKFLT, *sorted(each for each in signal.valid_signals() if each >= signal.SIGRTMIN)),
)
# For a program that we run: all that can be caught and does not stop us, or report a fault of ours. SIGHUP is for both.
FORWARDED_SIGNALS = frozenset(
    {signal.SIGHUP, signal.SIGWINCH, signal.SIGURG, *IGNORED_SIGNALS} - {LEVEL_SIGNAL, STACKS_SIGNAL}
)
# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
PR_SET_PDEATHSIG = 1
STARTUP_GRACE = 1.0  # seconds that a start may go on after a signal to stop; mostly it is over sooner


def block_signals() -> set[int]:
    """Blocks the signals that the supervisor waits for, and returns them; call it before any thread starts."""
    # The kernel delivers a signal to any thread that does not block it, and so ends the process.
    # A parent may have had it ignored; then the kernel would not report the server's end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A parent may want others ignored, as nohup does.
    wanted = (each for each in (*STOP_SIGNALS, *CONTROL_SIGNALS) if signal.getsignal(each) != signal.SIG_IGN)
    blocked = {signal.SIGCHLD, *wanted}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    ignore_signals()
    if faulthandler.is_enabled():  # as by PYTHONFAULTHANDLER
        widen_signal_stack()
    return blocked


def wait_for_signal(numbers: AbstractSet[int], seconds: float) -> int:
    """Waits for blocked signals, some seconds at most; returns the number of one that has come, or 0."""
    # Those to stop come first, since others may come without end. The kernel takes no infinite time.
    urgent = numbers & {signal.SIGCHLD, *STOP_SIGNALS}
    came = signal.sigtimedwait(urgent, 0) or signal.sigtimedwait(numbers, min(max(0.0, seconds), 3600.0))
    return came.si_signo if came else 0


def ignore_signals(numbers: Iterable[int] = IGNORED_SIGNALS) -> None:
    """Logs these signals from now on, in place of ending this process; leaves those that have a handler to it."""
    # A handler, unlike SIG_IGN, is not inherited by a program that a plugin starts. A plugin's own replaces it.
    for each in numbers:
        if signal.getsignal(each) == signal.SIG_DFL:
            signal.signal(each, _log_ignored)


def _log_ignored(number: int, _frame: FrameType | None) -> None:
    name = signal.Signals(number).name if number <= signal.SIGRTMIN else f"SIGRTMIN+{number - signal.SIGRTMIN}"
    logging.getLogger(__name__).warning("ignored signal %s", name)


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Makes the kernel send this process a signal when its parent ends; sends it if that has ended already."""
    load_prctl()(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        signal.raise_signal(number)


@cache
def load_prctl() -> Callable[[int, int], int]:
    """Returns the C library's prctl(2). Call it before a fork: what it loads takes 3 MB of each process else."""
    import ctypes

    prctl: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    return prctl


@contextmanager
def startup_guard(blocked: AbstractSet[int]) -> Iterator[None]:
    """Lets blocked signals to stop end the process if the start hangs, as in a plugin's import; SIGCHLD is blocked."""
    blocked = blocked & {signal.SIGCHLD, *STOP_SIGNALS}
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(blocked, over), name="starting", daemon=True)
    # If no thread can be started, whatever needs one next reports that.
    with suppress(RuntimeError):
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.ident is not None:
            os.kill(os.getpid(), signal.SIGCHLD)  # wakes the thread, and means nothing to anything else that waits
            thread.join()
            # In CPython 3.12, join() returns a moment before the thread is gone, and the next fork would warn of it.
            while Path(f"/proc/self/task/{thread.native_id}").exists():
                time.sleep(0.0001)


def _watch(blocked: AbstractSet[int], over: threading.Event) -> None:
    while not over.is_set():
        asked = signal.Signals(signal.sigwait(blocked))
        if asked == signal.SIGCHLD:
            continue  # the start is over, or a plugin's own child has ended
        if not over.wait(STARTUP_GRACE):
            with suppress(OSError):
                os.write(2, f"stator: stopped by {asked.name} while it was starting\n".encode())
            os._exit(128 + asked)
        os.kill(os.getpid(), asked)  # for the supervisor
