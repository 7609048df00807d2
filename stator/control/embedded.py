"""Control of an application with Stator in it: the state that it shows, and the signals of `ctl`."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from types import FrameType
from typing import Any
from weakref import WeakSet

from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.control.stacks import stacks
from stator.control.state import NAME, SharedState
from stator.log.level import level_name
from stator.log.logger import Log
from stator.log.stdlib import adopted_logger
from stator.processes.discovery import discovery_lock, open_memory, relatives, server_pid
from stator.processes.procfs import Stat


class EmbeddedControl:
    """Lets `ctl` find a service of this process, and the processes of its server that have the same.

    To be created in each worker, or in their parent before it forks them.
    """

    def __init__(self, log: Log, logger: logging.Logger | None, fields: Mapping[str, object]) -> None:
        """Shows fields, `service` among them; the level of `logger` may change, and of what we have set up."""
        self._log, self._logger = log, logger
        self._configured: dict[logging.Logger, int] = {}  # levels of those that were changed
        self._state = _shared_state(fields)
        _handle(LEVEL_SIGNAL, self, EmbeddedControl.change_level)
        _handle(STACKS_SIGNAL, self, EmbeddedControl.write_stacks)
        self.apply_level()

    def change_level(self, _frame: FrameType | None = None) -> None:
        """Gives the loggers the level that the state has, and logs that."""
        self.apply_level()
        level = self._state.level[0]
        self._say("log level changed", pid=os.getpid(), to=level_name(level) if level else "as configured")

    def apply_level(self) -> None:
        """Gives the loggers the level that the state has, or what they had before."""
        level = self._state.level[0]
        for logger in filter(None, (self._logger, adopted_logger())):
            if level:
                self._configured.setdefault(logger, logger.level)
                logger.setLevel(level)
            elif logger in self._configured:
                logger.setLevel(self._configured.pop(logger))

    def write_stacks(self, frame: FrameType | None = None) -> None:
        """Writes the stacks of this process into the log."""
        self._say("stacks", process=_role(), pid=os.getpid(), **stacks(frame).fields())

    def failed(self, error: Exception) -> None:
        """Logs that a signal's handler has failed."""
        _outside_of_handler(lambda: self._log.error("failed to do what ctl asks for", error=error))

    def _say(self, message: str, **fields: object) -> None:
        level = logging.INFO
        if self._logger is not None:
            level = min(max(level, self._logger.getEffectiveLevel() // 10 * 10), logging.CRITICAL)
        _outside_of_handler(lambda: self._log.log(level, message, **fields))


class _Handler:
    """A signal's handler, which calls a method of all objects that are still there."""

    def __init__(self, act: Callable[[EmbeddedControl, FrameType | None], None]) -> None:
        self._act, self.controls = act, WeakSet[EmbeddedControl]()

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        for each in list(self.controls):
            try:
                self._act(each, frame)
            except Exception as error:  # noqa: BLE001 # it would end whatever the signal has interrupted
                each.failed(error)


def apply_levels() -> None:
    """Gives the loggers of this process the level that was asked for, after something else has set it."""
    handler = signal.getsignal(LEVEL_SIGNAL)
    if isinstance(handler, _Handler):
        for each in list(handler.controls):
            each.apply_level()


def signals() -> dict[str, int]:
    """Returns the numbers of the signals of `ctl`, which differ between C libraries."""
    return {"level": int(LEVEL_SIGNAL), "stacks": int(STACKS_SIGNAL)}


def identity(server: int | None = None) -> dict[str, Any]:
    """Returns what names this process's server, or another one, in the state: its process id, and when it started."""
    with suppress(OSError):
        server = server_pid() if server is None else server
        return {"pid": server, "started": Stat.of(server).started}
    return {"pid": os.getpid(), "started": 0}


def _handle(number: int, control: EmbeddedControl, act: Callable[[EmbeddedControl, FrameType | None], None]) -> None:
    """Makes a signal act on an object too, where nothing of the application's handles it."""
    # Python has handlers in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(number)
    if handler == signal.SIG_DFL:
        handler = _Handler(act)
        try:
            signal.signal(number, handler)
        except ValueError:  # nor in any but the main interpreter
            return
    if isinstance(handler, _Handler):
        handler.controls.add(control)


def _shared_state(fields: Mapping[str, object]) -> SharedState:
    """Returns the state that the processes of this server share for a service; one of its own where that can't be."""
    name = f"{NAME}-{sha256(str(fields['service']).encode()).hexdigest()[:16]}"
    try:
        server = server_pid()
        with discovery_lock(server):
            pids = (os.getpid(), *(() if server == os.getpid() else relatives(server)))
            fd = open_memory(name, pids)
            if fd is None:
                return _published(SharedState.new(name), fields)
            try:
                return SharedState.of_file(fd)
            finally:
                os.close(fd)
    except Exception:  # noqa: BLE001 # whatever it is, the service itself does not need it
        return _published(SharedState.new(name), fields)


def _published(state: SharedState, fields: Mapping[str, object]) -> SharedState:
    state.publish(**fields, kind="embedded", **identity(), signals=signals())
    return state


def _has_event_loop() -> bool:
    with suppress(RuntimeError):
        return asyncio.get_running_loop().is_running()
    return False


def _role() -> str:
    with suppress(OSError):
        return "main" if server_pid() == os.getpid() else "worker"
    return ""


def _outside_of_handler(write: Callable[[], object]) -> None:
    """Logs outside of a signal's handler, which may have interrupted a handler of logging that can't be entered twice.

    In a server's main process, which forks, no thread of ours may run; one that has an event loop forks no workers.
    """
    if _role() == "worker" or _has_event_loop():
        with suppress(RuntimeError):
            threading.Thread(target=write, name="stator-control", daemon=True).start()
            return
    write()
