"""Structured logging: one JSON object a line, with structlog."""

import random
import re
import string
import traceback
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attrs import frozen

from stator.log.level import Level, filtering_logger
from stator.log.render import Event, LineRenderer, safely
from stator.settings.declare import Constraint, at_least, setting
from stator.settings.masking import KnownSecrets, Mask, mask_texts

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from stator.log.writer import Sink

    Log: TypeAlias = FilteringBoundLogger
else:
    Log: TypeAlias = Any

# A letter or digit for each value of a byte.
_ID_LETTERS = ((string.ascii_letters + string.digits) * 5)[:256].encode()


@frozen(eq=False, repr=False)
class LoggerConfig:
    """Settings of the log."""

    max_len: int = setting(
        999, desc="maximum length that will be logged for any field, 0 for no maximum", check=at_least(0)
    )
    level: Literal["debug", "info", "warning", "error"] = setting("info", desc="lowest level that is logged")
    format: Literal["auto", "json", "text"] = setting(
        "auto", desc="json lines or coloured text; auto is text when stdout is a terminal"
    )
    quiet_paths: tuple[str, ...] = setting(
        (),
        desc="paths whose successful requests are logged at debug; /monitor/* stands for all below it",
        check=Constraint(
            "paths such as /metrics, or /monitor/* for all below one",
            lambda paths: all(re.fullmatch(r"/[^*]*|(/[^*]*)?/\*", path) for path in paths),
        ),
    )
    access: Literal["auto", "full", "line", "off"] = setting(
        "auto", desc="requests: two lines with headers, one line, or none; auto is full, and line in an application"
    )

    def build(
        self, sink: "Sink", *, terminal: bool, secrets: KnownSecrets | None = None, level: Level | None = None
    ) -> Log:
        """Returns a logger that writes to a sink, and masks secrets; `terminal`: whether the descriptor is one.

        `level` is the lowest that is logged while the program runs; left open, it's the configured one for good.
        """
        processors = self.processors(terminal=terminal, secrets=secrets)
        return structured_log(sink, processors, level.is_enabled if level else self.level)

    def processors(self, *own: "Processor", terminal: bool, secrets: KnownSecrets | None = None) -> "list[Processor]":
        """Returns what makes a line, of bytes, of an event; `own` see it when it has the fields that are bound."""
        import structlog

        text = self.format == "text" or (self.format == "auto" and terminal)
        renderer = LineRenderer(self.max_len, secrets or KnownSecrets())
        return [
            structlog.contextvars.merge_contextvars,
            *own,
            renderer.shorten,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(key="ts"),
            renderer.text if text else renderer.json,
        ]


def structured_log(sink: object, processors: "list[Processor]", level: str | Callable[[int], bool] = "debug") -> Log:
    """Returns a log whose events go through processors and then to a sink's method for the level.

    `level` is the lowest that is logged, or says of a level's number whether that is.
    """
    import structlog

    filtering = structlog.make_filtering_bound_logger(level) if isinstance(level, str) else filtering_logger(level)
    log: Log = structlog.wrap_logger(sink, processors, wrapper_class=filtering, context_class=dict).bind()
    return log


def masked_logger(log: Log, mask: Mask) -> Log:
    """Returns a log that passes each event on to another, without secrets."""

    def masked(_logger: object, _level: str, event: Event) -> tuple[tuple[str], dict[str, Any]]:
        message = mask(safely(str, event.pop("event", "")))
        return (message,), {name: _masked(value, mask) for name, value in event.items()}

    return structured_log(log, [masked])


def _masked(value: object, mask: Mask) -> object:
    """Returns a field without secrets: an error that holds one becomes the text of its traceback."""
    if isinstance(value, BaseException):
        text = safely(lambda error: "".join(traceback.format_exception(error)), value)
        return value if mask(text) == text else mask(text)
    return mask_texts(value, mask)


def bind(**fields: str) -> Mapping[str, Token[Any]]:
    """Adds fields to all that this thread or task logs by structlog, an application's own lines too, until `unbind`."""
    import structlog

    return structlog.contextvars.bind_contextvars(**fields)


def unbind(tokens: Mapping[str, Token[Any]]) -> None:
    """Restores the context as it was before `bind`, with what an application had bound."""
    import structlog

    structlog.contextvars.reset_contextvars(**tokens)


# Not Python's own sequence, which an application may seed, and processes that are forked behind Python's back share.
RANDOM = random.SystemRandom()


def new_id(random_bits: Callable[[int], int] = RANDOM.getrandbits) -> str:
    """Returns seven random letters or digits: the id of a run, a worker or a request."""
    return random_bits(56).to_bytes(7, "little").translate(_ID_LETTERS).decode()
