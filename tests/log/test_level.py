"""The level of a log changes while its program runs."""

import asyncio
import logging
from typing import Any

import pytest

from stator.log.level import LEVELS, Level, filtering_logger, toggled
from stator.log.logger import LoggerConfig
from stator.settings.masking import KnownSecrets


class Lines:
    """A sink that keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def msg(self, line: bytes) -> None:
        self.lines.append(line)

    debug = info = warning = error = critical = msg


def test_a_bound_logger_follows_the_level() -> None:
    sink, memory = Lines(), bytearray(1)
    level = Level("info", memory)
    log = LoggerConfig().build(sink, terminal=False, secrets=KnownSecrets(), level=level).bind(app_id="a")  # type: ignore[arg-type]
    log.debug("no")
    memory[0] = logging.DEBUG
    log.debug("yes")
    memory[0] = logging.ERROR
    log.warning("no")
    log.log(logging.WARNING, "no")
    log.error("yes")
    log.exception("yes")
    asyncio.run(log.ainfo("no"))
    memory[0] = 0
    asyncio.run(log.ainfo("yes"))
    log.log(logging.INFO, "yes")
    assert [b'"msg":"yes"' in line for line in sink.lines] == [True] * 5
    assert (log.is_enabled_for(logging.INFO), log.is_enabled_for(logging.DEBUG)) == (True, False)


@pytest.mark.parametrize("configured", LEVELS)
def test_debug_is_turned_on_and_off(configured: str) -> None:
    level = Level(configured)
    level.toggle()
    assert level.name == ("info" if configured == "debug" else "debug")
    level.toggle()
    assert level.name == configured
    assert level.visible >= max(logging.INFO, level.number)


def test_a_level_that_was_set_goes_to_debug_and_back_to_what_is_configured() -> None:
    assert toggled(logging.ERROR, logging.WARNING) == logging.DEBUG
    assert toggled(logging.DEBUG, logging.WARNING) == 0


def test_the_standard_librarys_level_can_be_the_one() -> None:
    logger = logging.getLogger("tests.level")
    logger.setLevel("WARNING")
    filtering: Any = filtering_logger(logger.isEnabledFor)
    sink: list[str] = []
    log = filtering(sink, [lambda _logger, _name, event: (_ for _ in ()).throw(RuntimeError(event["event"]))], {})
    log.info("no")
    logger.setLevel("DEBUG")
    with pytest.raises(RuntimeError, match="yes"):
        log.debug("yes")
