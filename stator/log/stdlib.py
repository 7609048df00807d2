"""To and from the standard library's logging: records of libraries become lines, an embedded Stator's lines records."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stator.log.logger import Log, structured_log
from stator.log.render import ID_FIELDS, Event, safely

if TYPE_CHECKING:
    from structlog.typing import Processor

LOGGER = "stator"
# Attributes of our own records: their fields, and their message without these.
FIELDS, EVENT = "stator", "stator_event"
# Attributes that every record has, or gets from a formatter; the coloured message is uvicorn's.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message", FIELDS, EVENT}
# Parameters of a log call, and what each line has; a field of such a name gets an underscore.
_RESERVED = {"self", "level", "event", "method_name", "ts", "msg"}
# Fields of a record's `extra` that get one, too: those of the process, and those of the request if one is at work.
_OF_PROCESS = {"app_id", "run_id", "worker_id"}


def stdlib_logger(logger: logging.Logger) -> Log:
    """Returns a log that passes each event to a standard logger: fields as text, and in the attribute ``stator``."""
    import structlog

    merge_context: Processor = structlog.contextvars.merge_contextvars
    return structured_log(logger, [structlog.stdlib.filter_by_level, merge_context, _record_arguments])


def record_writer(logger: logging.Logger) -> Callable[[int, str, Mapping[str, object]], None]:
    """Returns what passes a level, a message and its fields to a standard logger, as `stdlib_logger` does.

    For lines that are written for each request: it takes a third of the time, as it looks for no caller.
    """

    def write(level: int, message: str, fields: Mapping[str, object]) -> None:
        if not logger.isEnabledFor(level):
            return
        try:
            text = f"{message} {' '.join([f'{name}={value!r}' for name, value in fields.items()])}"
        except Exception:  # noqa: BLE001 # a value's repr may raise anything
            text = _text(message, fields)
        record = logger.makeRecord(logger.name, level, __file__, 0, text, (), None, func="write")
        vars(record).update({FIELDS: fields, EVENT: message})
        logger.handle(record)

    return write


def _text(message: object, fields: Mapping[str, object]) -> str:
    return " ".join([safely(str, message), *(f"{name}={safely(repr, value)}" for name, value in fields.items())])


def _record_arguments(_logger: object, _level: str, event: Event) -> tuple[tuple[str, str], dict[str, Any]]:
    message = event.pop("event", None)
    error = event.pop("error") if isinstance(event.get("error"), BaseException) else None
    # As an argument, since logging would take a % in the format for a place of an argument.
    return ("%s", _text(message, event)), {"exc_info": error, "extra": {FIELDS: dict(event), EVENT: message}}


def adopt_stdlib(log: Log, level: str = "warning") -> None:
    """Passes what libraries log through the standard library, from a level on, and Python's warnings, to a log."""
    root = logging.getLogger()
    root.handlers = [_Handler(log)]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def adopted_logger() -> logging.Logger | None:
    """Returns the root logger, if its records go to a log of ours."""
    root = logging.getLogger()
    return root if any(isinstance(each, _Handler) for each in root.handlers) else None


class _Handler(logging.Handler):
    """Logs each record with its level, message, logger's name, fields and exception."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Logs one record; whoever logs gets no error of ours."""
        try:
            log_record(self._log, record)
        except Exception:  # noqa: BLE001
            self.handleError(record)


def log_record(log: Log, record: logging.LogRecord) -> Any:
    """Logs a record of the standard library, with what its call gave as ``extra``; returns what the log's sink does."""
    import structlog

    extra = {str(name): value for name, value in vars(record).items() if name not in _STANDARD}
    own = getattr(record, FIELDS, {})
    is_ours = isinstance(own, Mapping) and all(isinstance(name, str) for name in own) and hasattr(record, EVENT)
    if not is_ours:  # another's attribute of that name
        extra, own = ({**extra, FIELDS: own} if hasattr(record, FIELDS) else extra), {}
    ours: dict[str, Any] = {"logger": record.name, **own}
    if record.stack_info:
        ours["stack"] = record.stack_info
    exc_info: Any = record.exc_info  # a record that somebody has made by hand may have anything
    if isinstance(exc_info, tuple) and len(exc_info) > 1 and exc_info[1] is not None:
        ours["error"] = exc_info[1]
    taken = {*ours, *_OF_PROCESS, *(structlog.contextvars.get_contextvars().keys() & {*ID_FIELDS})}
    fields = {**ours, **{f"{name}_" if name in taken else name: value for name, value in extra.items()}}
    level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
    message = (getattr(record, EVENT) if is_ours else None) or _message(record)  # it's a constant's name
    return log.log(level, message, **{f"{name}_" if name in _RESERVED else name: each for name, each in fields.items()})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 # the arguments do not fit the format: a library's mistake must not raise here
        return f"{safely(str, record.msg)} {safely(repr, record.args)}"
