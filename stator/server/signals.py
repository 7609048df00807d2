"""The time before anything runs: a plugin that hangs while it's imported or made can be stopped all the same."""

import os
import signal
import threading
from collections.abc import Set as AbstractSet
from contextlib import suppress
from types import TracebackType

# Seconds that a start may go on once it's asked to stop; mostly it's over in a tenth of that, and then stops in order.
PATIENCE = 1.0


class StartupGuard:
    """A context in which held signals end this process if what runs in it does not end soon.

    Args:
        held: Signals that all threads hold back; SIGCHLD is among them.
    """

    def __init__(self, held: AbstractSet[signal.Signals]) -> None:
        self._held = held
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="starting", daemon=True)

    def __enter__(self) -> None:
        # Where no thread can be had, whoever needs one next tells that.
        with suppress(RuntimeError):
            self._thread.start()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is None:
            return
        os.kill(os.getpid(), signal.SIGCHLD)  # wakes the thread, and means nothing to whoever else waits
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            asked = signal.Signals(signal.sigwait(self._held))
            if asked == signal.SIGCHLD:
                continue  # it's over, or a plugin's own child has ended
            if not self._over.wait(PATIENCE):
                with suppress(OSError):
                    os.write(2, f"stator: stopped by {asked.name} while it was starting\n".encode())
                os._exit(128 + asked)
            os.kill(os.getpid(), asked)  # for whoever waits for it from now on
