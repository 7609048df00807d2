"""An application's own log as Stator's lines: the standard library's logging, warnings, and structlog."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial, wraps
from random import Random
from typing import Any, TypeVar

from attrs import field, frozen

from stator.config import Environment
from stator.control.embedded import apply_levels
from stator.embedding.settings import PREFIX, VARIABLES
from stator.log.level import filtering_logger
from stator.log.logger import LoggerConfig, new_id, structured_log
from stator.log.render import Event
from stator.log.request import add_ids_of_error
from stator.log.stdlib import adopt_stdlib, log_record
from stator.log.writer import Sink
from stator.processes.discovery import run_key
from stator.settings.masking import KnownSecrets

T = TypeVar("T")
# An attribute of functions that hand over the context.
_INHERITS = "stator_inherits_context"
# Loggers of servers: what they say becomes lines, but for their access logs, which ours would repeat.
SERVERS = ("gunicorn.error", "uvicorn", "uvicorn.error", "hypercorn.error")
ACCESS_LOGS = ("gunicorn.access", "uvicorn.access", "hypercorn.access")


def configure_logging(*, service: str | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Writes what an application and its libraries log as Stator's lines, to stdout.

    That is what goes through the standard library's `logging`, through structlog, and Python's warnings. Each line has
    ``app_id``, ``run_id``, ``worker_id`` and, for a request, ``request_id``, in its threads and tasks, too: from now on
    threads, and functions that executors run in threads, begin with the context of whoever starts them. Servers' access
    logs are switched off. ``STTR_LOGGER_LEVEL``, ``_FORMAT`` and ``_MAXLEN`` are as for the program.

    Args:
        service: Name of the service, the field ``app_id``; left open, ``STTR_ROSTER_SERVICE_NAME``.
        environ: The variables; left open, the process's environment.

    Raises:
        ConfigError: Some variables can't be used; the message has a line for each.
    """
    import structlog

    config, secrets, ids = _read(service, environ)
    sink = Sink(1)
    # One level for all, which may change: the root logger's.
    is_enabled = logging.getLogger().isEnabledFor
    processors = config.processors(_take_error, add_ids_of_error, ids, terminal=os.isatty(1), secrets=secrets)
    structlog.configure(
        _for_bound_loggers([_if_enabled, *processors, partial(_write_line, sink)]),
        wrapper_class=filtering_logger(is_enabled),
        context_class=dict,
        logger_factory=lambda *_: sink,
    )
    adopt_stdlib(structured_log(sink, processors, is_enabled), config.level)
    apply_levels()
    for name in SERVERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in ACCESS_LOGS:
        logging.getLogger(name).disabled = True
    _inherit_context()


class LineFormatter(logging.Formatter):
    """Formats records as Stator's lines, for handlers that an application configures by itself.

    Args:
        service: Name of the service, the field ``app_id``; left open, ``STTR_ROSTER_SERVICE_NAME``.
        environ: The variables; left open, the process's environment.

    Raises:
        ConfigError: Some variables can't be used; the message has a line for each.
    """

    def __init__(self, *, service: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        super().__init__()
        config, secrets, ids = _read(service, environ)
        self._log = structured_log(_Lines(), config.processors(add_ids_of_error, ids, terminal=False, secrets=secrets))

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, without its end."""
        line: bytes = log_record(self._log, record)
        return line.decode().removesuffix("\n")


class _Lines:
    """A sink that returns each line."""

    @staticmethod
    def msg(line: bytes) -> bytes:
        return line

    debug = info = warning = error = critical = msg


@frozen
class ProcessIds:
    """A processor for structlog, which adds ``app_id``, ``run_id`` and ``worker_id``."""

    app_id: str
    run_id: str
    _workers: dict[int, str] = field(factory=dict, init=False)  # by process id, since a fork takes the object along

    @classmethod
    def of(cls, app_id: str) -> "ProcessIds":
        """Returns the ids of this process, and of those that it forks; a server's workers have the same run."""
        try:
            key = run_key()
        except OSError:  # no /proc
            key = None
        return cls(app_id, new_id(Random(key).getrandbits))  # noqa: S311 # not secret

    def __call__(self, _logger: object, _level: str, event: Event) -> Event:
        """Adds the ids to an event that does not have them."""
        pid = os.getpid()
        event.setdefault("app_id", self.app_id)
        event.setdefault("run_id", self.run_id)
        event.setdefault("worker_id", self._workers.get(pid) or self._workers.setdefault(pid, new_id()))
        return event


def add_ids(*, service: str | None = None, environ: Mapping[str, str] | None = None) -> ProcessIds:
    """Returns a processor for a structlog that an application configures by itself.

    It adds ``app_id``, ``run_id`` and ``worker_id``; structlog's own ``merge_contextvars`` adds ``request_id``.

    Args:
        service: Name of the service, the field ``app_id``; left open, ``STTR_ROSTER_SERVICE_NAME``.
        environ: The variables; left open, the process's environment.

    Raises:
        ConfigError: Some variables can't be used; the message has a line for each.
    """
    return _read(service, environ)[2]


def _read(service: str | None, environ: Mapping[str, str] | None) -> tuple[LoggerConfig, KnownSecrets, ProcessIds]:
    variables = os.environ if environ is None else environ
    # Collectors and registrars of the user's own are not loaded for the log.
    left_out = {f"{PREFIX}_COLLECTORS", f"{PREFIX}_ROSTER_REGISTRAR"}
    environment = Environment.of(PREFIX, {name: text for name, text in variables.items() if name not in left_out})
    config = environment.decode({VARIABLES["service"]: service} if service else {})
    return config.logger, config.known_secrets(), ProcessIds.of(config.roster.service.name)


def _for_bound_loggers(processors: list[Any]) -> list[Any]:
    """Returns the list of processors that structlog has, with others in it: loggers that are bound already hold it."""
    import structlog

    current = structlog.get_config()["processors"]
    if not isinstance(current, list):
        return processors
    current[:] = processors
    return current


def _if_enabled(_logger: object, level: str, event: Event) -> Event:
    """Drops an event below the root logger's level: loggers that are bound already have another one."""
    import structlog

    if not logging.getLogger().isEnabledFor(logging.getLevelNamesMapping().get(level.upper(), logging.INFO)):
        raise structlog.DropEvent
    return event


def _write_line(sink: Sink, _logger: object, _level: str, line: bytes) -> None:
    """Writes a line, and drops the event: loggers that are bound already would write it themselves."""
    import structlog

    sink.msg(line)
    raise structlog.DropEvent


def _take_error(_logger: object, _level: str, event: Event) -> Event:
    """Makes structlog's ``exc_info``, as `exception` gives it, the field ``error``."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple):
        given = given[1] if len(given) > 1 and given[1] is not None else bool(given)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event.setdefault("error", error)
    return event


def _inherit_context() -> None:
    """Lets threads begin with the context of whoever starts them, as Python 3.14 can: its thread_inherit_context."""
    for owner, name, inheriting in ((threading.Thread, "start", _start), (ThreadPoolExecutor, "submit", _submit)):
        function = getattr(owner, name)
        # Whatever has wrapped it since, as other libraries do, has our function's attributes, too.
        if not hasattr(function, _INHERITS):
            replacement = inheriting(function)
            setattr(replacement, _INHERITS, True)
            setattr(owner, name, replacement)


def _start(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def start_in_context(thread: threading.Thread) -> None:
        context, run = copy_context(), thread.run

        def run_in_context() -> None:
            vars(thread).pop("run", None)  # the thread would refer to itself, and outlive its last use
            context.run(run)

        thread.run = run_in_context  # type: ignore[method-assign] # Thread's own start calls it
        try:
            start(thread)
        except BaseException:
            vars(thread).pop("run", None)
            raise

    return start_in_context


def _submit(submit: Callable[..., Future[Any]]) -> Callable[..., Future[Any]]:
    @wraps(submit)
    def submit_in_context(
        executor: ThreadPoolExecutor, function: Callable[..., T], /, *args: Any, **keywords: Any
    ) -> Future[T]:
        return submit(executor, copy_context().run, function, *args, **keywords)

    return submit_in_context
