"""An embedded Stator logs through the standard library."""

import logging

import pytest

from stator.log.logger import bind, unbind
from stator.log.stdlib import record_writer, stdlib_logger

LOGGER = logging.getLogger("test.stator")


def test_a_record_has_the_fields_in_its_message_and_in_an_attribute(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", LOGGER.name):
        stdlib_logger(LOGGER).bind(worker_id="abc").info("registered", name="100 %s", failures=2)
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER.name, "INFO")
    assert record.getMessage() == "registered worker_id='abc' name='100 %s' failures=2"
    assert vars(record)["stator"] == {"worker_id": "abc", "name": "100 %s", "failures": 2}


def test_a_line_of_a_request_may_hold_a_percent_sign(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", LOGGER.name):
        record_writer(LOGGER)(logging.INFO, "answered request", {"path": "/100%/%s"})
    assert [record.message for record in caplog.records] == ["answered request path='/100%/%s'"]


def test_an_error_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        stdlib_logger(LOGGER).error("failed to collect", error=error)
    assert "in test_an_error_comes_with_its_traceback" in caplog.text
    assert "ZeroDivisionError: division by zero" in caplog.text


def test_the_loggers_level_decides_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", LOGGER.name):
        stdlib_logger(LOGGER).info("below the level")
        stdlib_logger(LOGGER).warning("logged")
    assert [record.message for record in caplog.records] == ["logged"]


def test_fields_bound_to_the_context_are_in_each_record(caplog: pytest.LogCaptureFixture) -> None:
    tokens = bind(request_id="abc")
    stdlib_logger(LOGGER).warning("slow", seconds=3)
    unbind(tokens)
    assert [record.message for record in caplog.records] == ["slow seconds=3 request_id='abc'"]


def test_odd_values_make_a_record(caplog: pytest.LogCaptureFixture) -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    stdlib_logger(LOGGER).warning("odd", value=Mute(), error="no exception", text="\u202e\x1b")
    (record,) = caplog.records
    assert "Mute: RuntimeError" in record.message
    assert record.message.endswith(r"error='no exception' text='\u202e\x1b'")
