"""Renders log events as lines of JSON or text: fields in order, plain values, secrets masked, long texts truncated."""

import re
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar

import msgspec

from stator.settings.masking import KnownSecrets

Event: TypeAlias = MutableMapping[str, Any]
T = TypeVar("T")

TRUNCATED = "--truncated--"
# Fields that follow the message, in this order, and are never masked or truncated.
ID_FIELDS = ("app_id", "run_id", "worker_id", "request_id", "trace_id", "span_id", "parent_span_id")
# Fields that are not truncated: whoever asks for them wants all.
WHOLE_FIELDS = ("stacks",)
# Members of an exception group that a line has, those of groups in it included.
_MEMBERS = 10
# The largest integer that every reader of JSON can hold.
_LARGEST = 2**63 - 1
# DEL, C1 controls, line separators and bidirectional controls. JSON escapes the other control characters anyway.
_UNSAFE = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# In text, C0 controls become pictures that a terminal does not obey, as ESC becomes U+241B.
_PICTURES = {code: 0x2400 + code for code in range(0x20)}


class LineRenderer:
    """Processors for structlog: `shorten`, to at most `max_len` characters unless 0, and then `json` or `text`."""

    def __init__(self, max_len: int, secrets: KnownSecrets) -> None:
        from structlog.dev import ConsoleRenderer

        self._secrets, self._mask = secrets, secrets.mask
        self._max_len, self._longest = max_len, max_len or sys.maxsize
        self._encode = msgspec.json.Encoder(enc_hook=partial(safely, str)).encode
        self._console = ConsoleRenderer(colors=True, sort_keys=False, timestamp_key="ts", event_key="msg")

    def shorten(self, _logger: object, _level: str, event: Event) -> Event:
        """Converts values to what JSON can hold, an error to a dictionary, masks and truncates texts but for ids."""
        longest, mask = self._longest, self._mask
        for name, value in event.items():
            # Most values are short texts and small numbers, in each of a request's two lines.
            if type(value) is str:
                if name in ID_FIELDS or (len(value) <= longest and mask(value) == value):
                    continue
            elif type(value) is int and -_LARGEST <= value <= _LARGEST:
                continue
            event[name] = safely(mask if name in WHOLE_FIELDS else self._plain, value)
        return event

    def json(self, _logger: object, _level: str, event: Event) -> bytes:
        """Returns a JSON object and a line feed."""
        fields = _in_order(event)
        try:
            line = self._encode(fields)
        except UnicodeEncodeError:  # a lone surrogate in a short text, as in a path that is not UTF-8
            texts = {name: _encodable(value) if isinstance(value, str) else value for name, value in fields.items()}
            line = self._encode({_encodable(name): value for name, value in texts.items()})
        return escape_line(line) + b"\n"

    def text(self, logger: object, level: str, event: Event) -> bytes:
        """Returns a coloured line for a terminal, with the traceback of an error below it."""
        fields: dict[str, str] = {}
        frames: list[str] = []
        for name, value in _in_order(event).items():
            text = str(value)
            if isinstance(value, dict):
                text, *rest = _error_lines(value)
                frames += rest
            elif name in WHOLE_FIELDS:
                text, *rest = text.split("\n")
                frames += rest
            elif isinstance(value, datetime):
                text = f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"
            fields[name.translate(_PICTURES)] = text.translate(_PICTURES)
        lines = [str(self._console(logger, level, fields)), *(frame.translate(_PICTURES) for frame in frames)]
        return _escape("\n".join([*lines, ""])).encode(errors="backslashreplace")

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and -_LARGEST <= value <= _LARGEST:
            return int(value)
        if isinstance(value, float):
            return float(value)  # NumPy's floats are subclasses
        if isinstance(value, BaseException):
            return self._plain_error(value)
        return self._truncated(self._text(value))

    def _plain_error(self, error: BaseException) -> dict[str, Any]:
        fields: dict[str, Any] = {name: self._truncated(text) for name, text in _error(error).items()}
        if isinstance(error, BaseExceptionGroup):
            fields["exceptions"] = [self._plain_error(each) for each in islice(_members(error), _MEMBERS)]
        return fields

    def _text(self, value: Any) -> str:
        if isinstance(value, (bytes, bytearray, memoryview)):
            # A character has four bytes at most: no need to decode the whole of a large body.
            return bytes(value[: 4 * (self._longest + self._secrets.reach + 1)]).decode(errors="replace")
        if not isinstance(value, (dict, list, tuple, set, frozenset)):
            return str(value)
        try:
            return self._encode(value).decode()
        except (RecursionError, TypeError, ValueError):  # a cycle, a lone surrogate, an integer of 5,000 digits
            return repr(value)

    def _truncated(self, text: str) -> str:
        # Masked first, with what comes behind: nothing may be left of a secret that the end goes through.
        reach = self._secrets.reach
        is_long = len(text) > self._longest + reach
        text = self._mask(text[: self._longest + reach])
        if is_long:
            text = text[:-reach]
        if not text.isascii():
            text = _encodable(text[: self._longest + 1])
        if len(text) <= self._longest and not is_long:
            return text
        return text[: max(0, self._max_len - len(TRUNCATED))] + TRUNCATED


def safely(convert: Callable[[Any], T], value: object) -> T | str:
    """Returns the result of a conversion, or a text that names its error: no log call may fail."""
    try:
        return convert(value)
    except Exception as error:  # noqa: BLE001 # a value's methods may raise anything
        return f"can't log a {type(value).__qualname__}: {type(error).__qualname__}"


def _in_order(event: Event) -> dict[str, Any]:
    """Returns an event's fields in order: time, level, message and ids come first."""
    time = datetime.fromtimestamp(event.pop("ts"), UTC)
    # Always with a fraction: msgspec leaves out one that is 0.
    time = time if time.microsecond else time.replace(microsecond=1)
    event["msg"] = event.pop("event", None)
    ids = {name: event[name] for name in ID_FIELDS if name in event}
    return {"ts": time, "level": event.pop("level"), "msg": None, **ids, **event}


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def escape_line(line: bytes) -> bytes:
    """Returns a line of JSON in which no character is left that a terminal would obey, or that turns others round."""
    return line if line.isascii() and b"\x7f" not in line else _escape(line.decode()).encode()


def _escape(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yields the errors of a group, in place of the groups among them theirs."""
    rest = [*reversed(group.exceptions)]
    while rest:
        error = rest.pop()
        if isinstance(error, BaseExceptionGroup):
            rest += reversed(error.exceptions)
        else:
            yield error


def _error_lines(fields: dict[str, Any]) -> Iterator[str]:
    """Yields an error's type and message, and below it its traceback and the errors of a group."""
    members, frames, kind = fields.pop("exceptions", []), fields.pop("traceback"), fields.pop("type")
    yield f"{kind}: {', '.join(fields.values())}"
    yield from frames.split("\n")
    for member in members:
        yield from _error_lines(member)


def _error(error: BaseException) -> dict[str, str]:
    """Returns type, message, traceback and cause; the innermost frame comes first, so that truncation leaves it."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    fields = {
        "type": type(error).__qualname__,
        "message": safely(str, error),
        "traceback": "\n".join(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames),
    }
    cause = error.__context__ if error.__cause__ is None and not error.__suppress_context__ else error.__cause__
    if cause is None:
        return fields
    return fields | {"cause": "".join(traceback.format_exception_only(cause)).strip()}
