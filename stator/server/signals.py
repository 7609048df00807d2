"""Signals: which ask to stop, how they are kept for the supervisor, and what ends a process with its parent."""

import os
import signal
import threading
from collections.abc import Set as AbstractSet
from contextlib import suppress
from types import TracebackType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds that a start may go on after a signal to stop; mostly it is over sooner, and the program stops in order.
STARTUP_GRACE = 1.0
# https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
PR_SET_PDEATHSIG = 1


def block_signals() -> set[signal.Signals]:
    """Blocks the signals that the supervisor waits for, and returns them.

    Call it before any thread starts, a collector's even: the kernel delivers a signal to any thread that does not
    block it, and so ends the process.
    """
    # A parent may have had it ignored; then the kernel would not report the server's end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A parent may want others ignored, as nohup does.
    blocked = {signal.SIGCHLD, *(each for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN)}
    signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    return blocked


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Makes the kernel send this process a signal when its parent ends; sends it if that has ended already."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        signal.raise_signal(number)


class StartupGuard:
    """A context in which blocked signals end the process if the start hangs, for instance in a plugin's import.

    Signals are blocked from the start, because a plugin may start a thread: so a thread of this guard waits for them.

    Args:
        blocked: Signals that all threads block; SIGCHLD is among them.
    """

    def __init__(self, blocked: AbstractSet[signal.Signals]) -> None:
        self._blocked = blocked
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="starting", daemon=True)

    def __enter__(self) -> None:
        # If no thread can be started, whatever needs one next reports that.
        with suppress(RuntimeError):
            self._thread.start()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is None:
            return
        os.kill(os.getpid(), signal.SIGCHLD)  # wakes the thread, and means nothing to anything else that waits
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            asked = signal.Signals(signal.sigwait(self._blocked))
            if asked == signal.SIGCHLD:
                continue  # the start is over, or a plugin's own child has ended
            if not self._over.wait(STARTUP_GRACE):
                with suppress(OSError):
                    os.write(2, f"stator: stopped by {asked.name} while it was starting\n".encode())
                os._exit(128 + asked)
            os.kill(os.getpid(), asked)  # for the supervisor
