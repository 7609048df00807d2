"""The lowest level that is logged, which may change while a program runs."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Methods of a structlog logger beside those of the levels, which `exception` calls.
_ALIASES = {"msg": logging.INFO, "warn": logging.WARNING, "critical": logging.CRITICAL, "fatal": logging.CRITICAL}


class Level:
    """The lowest level of a program's log: a byte that its processes share, or as configured while that is 0."""

    def __init__(self, configured: str, memory: "memoryview | bytearray | None" = None) -> None:
        self._configured = LEVELS[configured]
        self._memory = bytearray(1) if memory is None else memory

    @property
    def number(self) -> int:
        """The level, as the standard library numbers them."""
        return self._memory[0] or self._configured

    @property
    def name(self) -> str:
        """The level's name."""
        return level_name(self.number)

    @property
    def visible(self) -> int:
        """The level of a line that somebody asked for, and is to see: info, or the lowest that is logged."""
        return max(self.number, logging.INFO)

    def is_enabled(self, number: int) -> bool:
        """Whether what has a level is logged."""
        return number >= (self._memory[0] or self._configured)

    def toggle(self) -> None:
        """Turns debug on, or off if it is on: then the level is as configured, or info where that is debug."""
        self._memory[0] = toggled(self._memory[0], self._configured)


def toggled(changed: int, configured: int) -> int:
    """Returns the next value of a level's byte, 0 for the configured one, when debug is turned on or off."""
    if (changed or configured) != logging.DEBUG:
        return logging.DEBUG
    return logging.INFO if configured == logging.DEBUG else 0


def level_name(number: int) -> str:
    """Returns a level's name in lower case."""
    return logging.getLevelName(number).lower()


def filtering_logger(is_enabled: Callable[[int], bool]) -> "type[FilteringBoundLogger]":
    """Returns a class of structlog loggers that asks at each call whether its level is logged."""
    import structlog

    # Structlog's own classes have a fixed level each.
    base = structlog.make_filtering_bound_logger("debug")

    def method(name: str, number: int) -> Callable[..., Any]:
        plain = getattr(base, name)

        def log(self: Any, event: str, *args: Any, **fields: Any) -> Any:
            return plain(self, event, *args, **fields) if is_enabled(number) else None

        return log

    def async_method(name: str, number: int) -> Callable[..., Any]:
        plain = getattr(base, name)

        async def log(self: Any, event: str, *args: Any, **fields: Any) -> Any:
            return await plain(self, event, *args, **fields) if is_enabled(number) else None

        return log

    def log(self: Any, level: int, event: str, *args: Any, **fields: Any) -> Any:
        return base.log(self, level, event, *args, **fields) if is_enabled(level) else None

    methods: dict[str, Any] = {"log": log, "is_enabled_for": lambda _, level: is_enabled(level)}
    for name, number in (LEVELS | _ALIASES).items():
        methods |= {name: method(name, number), f"a{name}": async_method(f"a{name}", number)}
    return type("LevelFilteringLogger", (base,), methods)
