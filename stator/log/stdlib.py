"""To and from the standard library's logging: libraries' records become lines, an embedded Stator's lines records."""

import logging
from collections.abc import MutableMapping
from typing import Any

from stator.log.logger import Log, bound

LOGGER = "stator"


def new(logger: logging.Logger) -> Log:
    """A log that hands each line to a logger.

    Fields stand behind the message as ``name=value``; as they are, a formatter finds them in the record's attribute
    ``stator``, a dictionary. Which levels are told, and where, is the logger's affair.
    """
    import structlog  # slow to import

    logger_type: Any = structlog.make_filtering_bound_logger("debug")
    made: Log = logger_type(logger, [_with_bound, _as_record], {})
    return made


def _with_bound(_logger: logging.Logger, _level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**bound(), **event}


def _as_record(
    logger: logging.Logger, level: str, event: MutableMapping[str, Any]
) -> tuple[tuple[str, str], dict[str, Any]]:
    """Arguments of the logger's method that makes the record."""
    import structlog  # slow to import

    if not logger.isEnabledFor(getattr(logging, level.upper())):
        raise structlog.DropEvent
    message = event.pop("event")
    error = event.pop("error", None)
    text = " ".join([str(message), *(f"{name}={value!r}" for name, value in event.items())])
    # Not as the format itself, in which a % would be taken for a place of an argument.
    return ("%s", text), {"exc_info": error, "extra": {"stator": dict(event)}}


def adopt_stdlib(log: Log) -> None:
    """Sends what libraries log through the standard library, and Python's warnings, to our log."""
    root = logging.getLogger()
    root.handlers = [_Bridge(log)]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _Bridge(logging.Handler):
    """Hands each record of the standard library's logging to our log."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Logs one record with its level, message, logger's name and exception."""
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1]:
            fields["error"] = record.exc_info[1]
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        self._log.log(level, _message(record), **fields)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 # its arguments do not fit: whoever logs must not suffer for it
        return f"{record.msg} {record.args}"
