"""What a line of the log shows of what was logged: which fields, in which order, and how much of each."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import Processor

TRUNCATED = "--truncated--"
# Order in which a line's first fields stand; the rest follow as they were given.
_FIRST = ("app_id", "run_id", "worker_id", "request_id")
# The largest integer that every reader of JSON can hold in 64 bits.
_LARGEST = 2**63 - 1
# Bytes of a body that is remembered, lest a big one stays in memory.
_KEPT_BODY = 64 * 1024
# What a client sent must not command the terminal: control characters show as their pictures (U+2400 and on).
_CONTROLS = {code: 0x2400 + code for code in range(32)} | dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


class LineRenderer:
    """Turns what was logged into a line: order of fields, time, errors, and their greatest length."""

    def __init__(self, max_len: int) -> None:
        import orjson  # slow to import

        self._max_len = max_len
        self._longest = max_len or sys.maxsize
        self._dumps, self._fragment = orjson.dumps, orjson.Fragment
        self._last_body: tuple[bytes, object] = b"", None
        self._last_own: tuple[Mapping[str, Any], Mapping[str, Any]] = {}, {}
        self._any_keys, self._line_end = orjson.OPT_NON_STR_KEYS, orjson.OPT_APPEND_NEWLINE
        self._console: Processor | None = None

    def json(
        self, level: str, event: str, own: Mapping[str, Any], context: Mapping[str, str], fields: Mapping[str, Any]
    ) -> bytes:
        """A JSON object and the line's end.

        Args:
            level: How much it matters.
            event: What happened.
            own: What is bound to the logger.
            context: What is bound to the context: names of a few letters, which are never cut.
            fields: What was logged.
        """
        longest = self._longest
        msg = event if type(event) is str and len(event) <= longest else self._field(event)
        mine = self._of_logger(own)
        # A field stands where its name comes first, and is what it is last.
        line = {"ts": _now(), "level": level, "msg": msg, **mine, **context, **mine, **fields}
        for name, value in fields.items():
            # Most are short words and small numbers: each line has several, each request two lines.
            if type(value) is str:
                if len(value) <= longest:
                    continue
            elif type(value) is int and -_LARGEST <= value <= _LARGEST:
                continue
            line[name] = self._body(value) if type(value) is bytes else self._field(value)
        try:
            return self._dumps(line, option=self._line_end)
        except TypeError:  # a lone surrogate in a short word
            shown = {name: self._field(value) for name, value in fields.items()}
            return self._dumps(line | {"msg": self._field(event)} | shown, option=self._line_end)

    def text(
        self, level: str, event: str, own: Mapping[str, Any], context: Mapping[str, str], fields: Mapping[str, Any]
    ) -> bytes:
        """A coloured line for a terminal, with a traceback below it where there is one; takes what `json` takes."""
        if self._console is None:
            from structlog.dev import ConsoleRenderer

            self._console = ConsoleRenderer(colors=True, sort_keys=False)
        line = {"timestamp": _now(), "level": level, "event": self._visible(self._field(event))}
        frames = ""
        for name, value in {**_in_order(own), **context, **own, **fields}.items():
            shown = self._field(value)
            if isinstance(value, BaseException):
                frames += f"\n{shown.pop('traceback')}"
                shown = f"{shown.pop('type')}: {', '.join(shown.values())}"
            line[name] = self._visible(shown)
        return f"{self._console(None, level, line)!s}{frames}\n".encode()

    def _of_logger(self, own: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is shown of what is bound to a logger, which is the same for many lines."""
        last, shown = self._last_own
        if last is not own:
            shown = {
                name: value if name in _FIRST and type(value) is str and value.isascii() else self._field(value)
                for name, value in _in_order(own).items()
            }
            self._last_own = own, shown
        return shown

    def _body(self, data: bytes) -> object:
        """What is shown of an answer, as JSON; those who share an answer share this, too."""
        if not 0 < len(data) <= _KEPT_BODY:
            return self._field(data)
        body, shown = self._last_body
        if body is not data:
            shown = self._fragment(self._dumps(self._field(data)))
            self._last_body = data, shown
        return shown

    def _visible(self, shown: Any) -> str:
        text = shown if isinstance(shown, str) else self._dumps(shown).decode()
        return text.translate(_CONTROLS)

    def _field(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._cut(value)
        if value is None or (isinstance(value, int) and abs(value) <= _LARGEST):
            return value
        if isinstance(value, float):
            return float(value)  # NumPy's are of a type of their own
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._cut_bytes(bytes(value)) if value else ""
        if isinstance(value, BaseException):
            return {name: self._cut(text) for name, text in _told(value).items()}
        return self._cut(self._nested(value))

    def _nested(self, value: object) -> str:
        try:
            return self._dumps(value, default=str, option=self._any_keys).decode()
        except TypeError:  # an integer that is too large, a lone surrogate, a circle: no log call may fail
            return _text(repr, value)

    def _cut(self, text: str) -> str:
        # A lone surrogate, as in a path that is not UTF-8, can't be written as JSON.
        if not text.isascii():
            text = text.encode(errors="backslashreplace").decode()
        if len(text) <= self._longest:
            return text
        return text[: max(0, self._max_len - len(TRUNCATED))] + TRUNCATED

    def _cut_bytes(self, data: bytes) -> str:
        # No need to decode a big body of which a little is shown: a character has four bytes at most, mostly one.
        if self._max_len and len(data) > self._max_len:
            start = data[: self._max_len + 1]
            data = start if start.isascii() else data[: 4 * self._max_len + 4]
        return self._cut(data.decode(errors="replace"))


def _in_order(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: fields[name] for name in _FIRST if name in fields}, **fields}


def _now() -> str:
    # RFC 3339, section 5.6, always with a fraction
    now = time.time()
    seconds = int(now)
    return f"{_second(seconds)}.{int((now - seconds) * 1e6):06d}Z"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _text(make: Callable[[Any], str], value: object) -> str:
    try:
        return make(value)
    except Exception as failed:  # noqa: BLE001 # whoever logs a value must not suffer for what it can't tell
        return f"the {make.__name__} of a {type(value).__qualname__} can't be made: {failed!r}"


def _told(error: BaseException) -> Mapping[str, str]:
    """Type, message and traceback of an error; the innermost frame first, since that is what a cut must leave."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    told = {
        "type": type(error).__qualname__,
        "message": _text(str, error),
        "traceback": "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames),
    }
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told | {"cause": "".join(traceback.format_exception_only(cause)).strip()} if cause else told
