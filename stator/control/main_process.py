"""What a service's main process does at signals that don't stop it."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from attrs import define

from stator.control.asking import StackDump
from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.control.state import SharedState
from stator.log.level import Level
from stator.log.logger import Log

MOST_AT_ONCE = 1000  # signals that ask for stacks, and get one answer


@define(eq=False, repr=False)
class MainControl:
    """Handles the signals that the main process waits for."""

    _read_again: Callable[[], list[str]]  # reads files again in any process, and returns which have changed
    _state: SharedState
    _level: Level
    _stacks: StackDump
    _log: Log
    _logged_level: int = 0

    def __attrs_post_init__(self) -> None:
        self._logged_level = self._level.number

    def publish(self, **fields: object) -> None:
        """Adds to what the service shows of its state."""
        self._state.publish(**fields)

    def prepare_server(self) -> None:
        """Makes the server's process, and its workers, write their stacks when they are asked."""
        self._stacks.answer()

    def handle(self, number: int, server: int | None) -> None:
        """Does what a signal asks for; `server` is the server's process, None if it has ended. Logs what goes wrong."""
        try:
            self._handle(number, server)
        except Exception as error:  # noqa: BLE001 # the service runs on, whatever it is
            self._log.error("failed to do what a signal asks for", signal=number, error=error)

    def reload(self) -> list[str] | None:
        """Reads files again, in any process; returns which have changed, or None after an error, which is logged."""
        try:
            return self._read_again()
        except Exception as error:  # noqa: BLE001 # what was read before is still there
            self._log.error("failed to read files again", error=error)
            return None

    def _handle(self, number: int, server: int | None) -> None:
        if number == signal.SIGHUP:
            self._reload(server)
        elif number in (signal.SIGUSR2, STACKS_SIGNAL):
            # One answer is for all who have asked by now; not for more, who may come without end while a stop waits.
            for _ in range(MOST_AT_ONCE):
                if not signal.sigtimedwait({STACKS_SIGNAL}, 0):
                    break
            self._stacks.ask()
        elif number == signal.SIGUSR1:
            self._level.toggle()
            self._log_level()
        elif number == LEVEL_SIGNAL:
            self._log_level()

    def _reload(self, server: int | None) -> None:
        changed = self.reload()
        if changed:
            self._log.log(self._level.visible, "read files again", changed=", ".join(changed))
        elif changed is not None:
            self._log.log(self._level.visible, "read files again: none has changed")
        if server is not None:
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGHUP)  # and it passes that on to its workers

    def _log_level(self) -> None:
        number = self._level.number
        if number != self._logged_level:
            self._logged_level = number
            self._log.log(self._level.visible, "log level changed", to=self._level.name)
