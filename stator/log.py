"""Structured, contextual logging: one JSON object a line, so that "what happened?" has an answer.

What holds for all that follows in a request or a thread is bound with structlog's ``bound_contextvars`` and
appears on every line, whichever module logs it.
"""

import logging
import random
import string
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import frozen

from stator.launch.settings import at_least, setting

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from stator.sink import Sink

    Log: TypeAlias = FilteringBoundLogger
else:
    Log: TypeAlias = Any

TRUNCATED = "--truncated--"
_ID_LETTERS = string.ascii_letters + string.digits
# Order in which a line's first fields stand; the rest follow as they were given.
_FIRST = ("app_id", "run_id", "worker_id", "request_id")


@frozen
class Config:
    """How the log is written."""

    max_len: int = setting(
        999, desc="maximum length that will be logged for any field, 0 for no maximum", check=at_least(0)
    )
    level: Literal["debug", "info", "warning", "error"] = setting("info", desc="lowest level that is logged")
    format: Literal["auto", "json", "text"] = setting(
        "auto", desc="json lines or coloured text; auto is text when stdout is a terminal"
    )

    def new(self, sink: "Sink", *, terminal: bool) -> Log:
        """A logger that writes to a sink; ``terminal`` says whether that is one."""
        import structlog  # slow to import

        text = self.format == "text" or (self.format == "auto" and terminal)
        fields = Fields(self.max_len)
        processors = [structlog.contextvars.merge_contextvars, fields.text if text else fields.json]
        bound: Any = structlog.make_filtering_bound_logger(self.level)
        made: Log = bound(sink, processors, {})
        return made


def new_id(choices: Callable[..., list[str]] = random.choices) -> str:
    """Seven letters or digits that tell one run, worker or request from another."""
    return "".join(choices(_ID_LETTERS, k=7))


class Fields:
    """Turns what was logged into a line: order of fields, time, errors, and their greatest length."""

    def __init__(self, max_len: int) -> None:
        import orjson  # slow to import

        self._max_len = max_len
        self._dumps = orjson.dumps
        self._option = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
        self._console: Processor | None = None

    def json(self, _log: object, level: str, event: MutableMapping[str, Any]) -> bytes:
        """A JSON object and the line's end."""
        line = {"ts": _now(), "level": level, "msg": event.pop("event")}
        for name in _FIRST:
            if name in event:
                line[name] = event.pop(name)
        for name, value in event.items():
            line[name] = self._field(value)
        return self._dumps(line, default=str, option=self._option)

    def text(self, log: object, level: str, event: MutableMapping[str, Any]) -> bytes:
        """A coloured line for a terminal, with a traceback below it where there is one."""
        if self._console is None:
            from structlog.dev import ConsoleRenderer

            self._console = ConsoleRenderer(colors=True, sort_keys=False)
        line = {"timestamp": _now(), "level": level, "event": event.pop("event")}
        for name, value in event.items():
            shown = self._field(value)
            line[name] = shown if isinstance(shown, str) else self._dumps(shown, default=str).decode()
        text = self._console(log, level, line)
        return f"{text!s}\n".encode()

    def _field(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._cut(value)
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, BaseException):
            return {name: self._cut(text) for name, text in _told(value).items()}
        if isinstance(value, bytes | memoryview):
            return self._cut_bytes(bytes(value))
        return self._cut(self._dumps(value, default=str, option=0).decode())

    def _cut(self, text: str) -> str:
        # A lone surrogate, as in a path that is not UTF-8, can't be written as JSON.
        text = text if text.isascii() else text.encode(errors="backslashreplace").decode()
        if not self._max_len or len(text) <= self._max_len:
            return text
        return text[: max(0, self._max_len - len(TRUNCATED))] + TRUNCATED

    def _cut_bytes(self, data: bytes) -> str:
        # A character has four bytes at most: no need to decode a big body of which a little is shown.
        shown = data[: 4 * self._max_len + 4] if self._max_len else data
        return self._cut(shown.decode(errors="replace"))


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
        self._log.log(level, record.getMessage(), **fields)


def _now() -> str:
    # RFC 3339, section 5.6, always with a fraction
    return f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _told(error: BaseException) -> Mapping[str, str]:
    """Type, message and traceback of an error; the innermost frame first, since that is what a cut must leave."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    told = {
        "type": type(error).__qualname__,
        "message": str(error),
        "traceback": "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames),
    }
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told | {"cause": "".join(traceback.format_exception_only(cause)).strip()} if cause else told
