"""Many warnings at once are few lines."""

import asyncio
import logging

import pytest

from stator.log.counted import MOST, CountedLog


def test_what_comes_again_within_a_second_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def many() -> None:
        log = CountedLog(logging.getLogger("counted"))
        for _ in range(57):
            log.warning("no")
        log.warning("never")
        await asyncio.sleep(1.1)
        log.warning("no")
        log.flush()
        log.flush()

    asyncio.run(many())
    assert caplog.messages == ["no (57 times)", "never", "no"]


def test_of_too_many_different_ones_only_the_number_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def many() -> None:
        log = CountedLog(logging.getLogger("counted"))
        for number in range(MOST + 1000):
            log.warning(f"from {number}")
        log.flush()

    asyncio.run(many())
    assert len(caplog.messages) == MOST + 1
    assert caplog.messages[-1] == "further warnings of this kind within a second: 1000"
