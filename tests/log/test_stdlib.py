"""What an embedded Stator logs through the standard library."""

import logging

import pytest

from stator.log.stdlib import new

LOGGER = logging.getLogger("test.stator")


def test_a_record_has_the_fields_in_its_message_and_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", LOGGER.name):
        new(LOGGER).bind(worker_id="abc").info("registered", name="100 %s", failures=2)
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER.name, "INFO")
    assert record.getMessage() == "registered worker_id='abc' name='100 %s' failures=2"
    assert vars(record)["stator"] == {"worker_id": "abc", "name": "100 %s", "failures": 2}


def test_an_error_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        new(LOGGER).error("failed to collect", error=error)
    assert "in test_an_error_comes_with_its_traceback" in caplog.text
    assert "ZeroDivisionError: division by zero" in caplog.text


def test_levels_are_the_loggers_affair(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", LOGGER.name):
        new(LOGGER).info("not told")
        new(LOGGER).warning("told")
    assert [record.message for record in caplog.records] == ["told"]
