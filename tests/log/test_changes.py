"""A problem that lasts is logged once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stator.log.changes import ChangeLog
from tests.captured_log import CapturedLog


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as captured:
        yield captured


@pytest.fixture
def changes(captured: CapturedLog) -> ChangeLog:
    return ChangeLog(captured.log, "check", "health check fails", "health check passes", expected=(TimeoutError,))


def messages(captured: CapturedLog) -> list[str]:
    return [line["msg"] for line in captured.lines]


def test_a_problem_that_lasts_is_logged_when_it_begins_and_when_it_is_over(
    captured: CapturedLog, changes: ChangeLog
) -> None:
    for problem in ("refused", "refused", "refused", None, None):
        changes.report("db", problem)
    assert messages(captured) == ["health check fails", "health check passes"]
    assert captured.lines[0]["check"] == "db"
    assert captured.lines[0]["reason"] == "refused"
    assert [line["level"] for line in captured.lines] == ["warning", "info"]


def test_another_reason_is_a_change_but_not_another_number_in_it(captured: CapturedLog, changes: ChangeLog) -> None:
    for problem in ("hangs since 1.0 s", "hangs since 2.5 s", "refused"):
        changes.report("db", problem)
    assert [line["reason"] for line in captured.lines] == ["hangs since 1.0 s", "refused"]


def test_an_error_has_its_traceback_unless_its_message_is_enough(captured: CapturedLog, changes: ChangeLog) -> None:
    changes.report("db", TimeoutError("no answer"))
    changes.report("queue", ValueError("bad"))
    expected, unexpected = captured.lines
    assert expected["reason"] == "no answer"
    assert unexpected["error"]["type"] == "ValueError"


def test_an_error_whose_message_raises_is_logged(captured: CapturedLog, changes: ChangeLog) -> None:
    class MuteError(TimeoutError):
        def __str__(self) -> str:
            raise RuntimeError

    changes.report("db", MuteError())
    assert "RuntimeError" in captured.line["reason"]


def test_problems_that_an_update_leaves_out_are_over(captured: CapturedLog, changes: ChangeLog) -> None:
    changes.update({"a": "refused", "b": "refused"})
    changes.update({"b": "refused"})
    assert [(line["msg"], line["check"]) for line in captured.lines] == [
        ("health check fails", "a"),
        ("health check fails", "b"),
        ("health check passes", "a"),
    ]


def test_subjects_without_a_problem_are_not_logged(captured: CapturedLog, changes: ChangeLog) -> None:
    changes.report("db", None)
    changes.update({})
    assert captured.lines == []
