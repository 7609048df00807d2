"""Control of an application with Stator in it: the state that it shows, and the signals of `ctl`."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import chain
from types import FrameType
from typing import Any, TypeAlias
from weakref import WeakSet

from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.control.stacks import stacks
from stator.control.state import NAME, SharedState
from stator.log.level import level_name
from stator.log.logger import Log
from stator.log.stdlib import LOGGER, adopted_logger
from stator.processes.discovery import discovery_lock, open_memory, relatives, server_pid
from stator.processes.procfs import Stat

_LOG = logging.getLogger(LOGGER)


class EmbeddedControl:
    """Lets `ctl` find a service of this process, and the processes of its server that have the same.

    To be created in each worker, or in their parent before it forks them.
    """

    def __init__(self, log: Log, logger: logging.Logger | None, fields: Mapping[str, object]) -> None:
        """Shows fields, `service` among them; the level of `logger` may change, and of what we have set up."""
        self._log, self._logger = log, logger
        self._state = _shared_state(fields)
        handler = _handle(LEVEL_SIGNAL, self, _change_level)
        # Levels of those that were changed: other objects of this process may change the same.
        self._configured = handler.configured if handler else {}
        _handle(STACKS_SIGNAL, self, _write_stacks)
        self.apply_level()

    @property
    def destination(self) -> int:
        """Identifies where it logs: a process may have several objects that log to the same place."""
        return id(self._logger or self._log)

    def log_level(self) -> None:
        """Logs which level there is now."""
        level = self._state.level[0]
        self._say("log level changed", pid=os.getpid(), to=level_name(level) if level else "as configured")

    def apply_level(self) -> None:
        """Gives the loggers the level that the state has, if it has one."""
        if level := self._state.level[0]:
            for logger in self._loggers():
                self._configured.setdefault(logger, logger.level)
                logger.setLevel(level)

    def restore_level(self) -> None:
        """Gives the loggers the level that they had before it was changed."""
        for logger in self._loggers():
            if logger in self._configured:
                logger.setLevel(self._configured.pop(logger))

    def _loggers(self) -> Iterator[logging.Logger]:
        yield from filter(None, (self._logger, adopted_logger()))

    def write_stacks(self, frame: FrameType | None) -> None:
        """Writes the stacks of this process into the log."""
        self._say("stacks", process=_role(), pid=os.getpid(), **stacks(frame).fields())

    def _say(self, message: str, **fields: object) -> None:
        level = logging.INFO
        if self._logger is not None:
            level = min(max(level, self._logger.getEffectiveLevel() // 10 * 10), logging.CRITICAL)
            if not self._logger.hasHandlers():  # logging's last resort, which then writes to stderr, takes no less
                level = max(level, logging.WARNING)
        _outside_of_handler(lambda: self._log.log(level, message, **fields))


Act: TypeAlias = Callable[[list[EmbeddedControl], FrameType | None], None]


class _Handler:
    """A signal's handler, for all objects that are still there; one that interrupts it lets it act once more."""

    def __init__(self, act: Act) -> None:
        self._act, self.controls = act, WeakSet[EmbeddedControl]()
        self.configured: dict[logging.Logger, int] = {}
        self._is_acting = self._is_asked = False

    def __call__(self, _number: int, frame: FrameType | None) -> None:
        self._is_asked = True
        # Calls within calls would have no end where signals come faster than they can be answered.
        while self._is_asked and not self._is_acting:
            self._is_asked, self._is_acting = False, True
            try:
                self._act(list(self.controls), frame)
            except Exception as error:  # noqa: BLE001 # it would end whatever the signal has interrupted
                _outside_of_handler(partial(_LOG.error, "failed to do what ctl asks for", exc_info=error))
            finally:
                self._is_acting = False


def _change_level(controls: list[EmbeddedControl], _frame: FrameType | None) -> None:
    # Another service of this process, whose level stays, may have the same loggers.
    for each in controls:
        each.restore_level()
    for each in controls:
        each.apply_level()
    for each in _by_destination(controls):
        each.log_level()


def _write_stacks(controls: list[EmbeddedControl], frame: FrameType | None) -> None:
    for each in _by_destination(controls):
        each.write_stacks(frame)


def _by_destination(controls: list[EmbeddedControl]) -> Iterable[EmbeddedControl]:
    return {each.destination: each for each in controls}.values()


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


def _handle(number: int, control: EmbeddedControl, act: Act) -> _Handler | None:
    """Makes a signal act on an object too; returns None where something of the application's handles it."""
    # Python has handlers in the main thread alone.
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.getsignal(number)
    if handler == signal.SIG_DFL:
        handler = _Handler(act)
        try:
            signal.signal(number, handler)
        except ValueError:  # nor in any but the main interpreter
            return None
    if not isinstance(handler, _Handler):
        return None
    handler.controls.add(control)
    return handler


def _shared_state(fields: Mapping[str, object]) -> SharedState:
    """Returns the state that the processes of this server share for a service; one of its own where that can't be."""
    name = f"{NAME}-{sha256(str(fields['service']).encode()).hexdigest()[:16]}"
    try:
        server = server_pid()
        with discovery_lock(server):
            # It may be inherited, or another object of this process has it.
            fd = open_memory(name, chain([os.getpid()], [] if server == os.getpid() else relatives(server)))
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
