"""The log of a Stator within another application: that application's own, through the standard library's logging."""

import logging
from collections.abc import MutableMapping
from typing import Any

from stator.log import Log, bound

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
