"""The state of a registration, as it is logged and exposed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stator.points import PointsAt
from stator.roster.metrics import RosterMetrics
from stator.roster.registrar import REASONS, RegistrarError
from tests.captured_log import CapturedLog


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def metrics(captured: CapturedLog, clock: Time) -> RosterMetrics:
    return RosterMetrics(captured.log, now=lambda: 1e9 + clock(), clock=clock)


def numbers(points_at: PointsAt) -> dict[str, object]:
    """What is not 0, by name or by reason."""
    named = {dict(point.labels).get("reason", point.name): point.value for point in points_at.points}
    return {name: value for name, value in named.items() if value}


def messages(captured: CapturedLog) -> list[str]:
    return [line["msg"] for line in captured.lines]


def test_every_number_is_there_from_the_start(metrics: RosterMetrics) -> None:
    points = list(metrics.collect(5.0).points)
    assert numbers(metrics.collect(5.0)) == {}
    assert [dict(point.labels)["reason"] for point in points if point.name == "failures"] == list(REASONS)


def test_a_registration_is_logged_once_however_often_it_is_confirmed(
    metrics: RosterMetrics, captured: CapturedLog, clock: Time
) -> None:
    metrics.accepted()
    metrics.confirmed("a-1")
    clock.seconds += 60
    metrics.confirmed("a-1")
    assert messages(captured) == ["registered"]
    assert numbers(metrics.collect(0)) == {
        "registered": 1,
        "last_confirmed_timestamp": 1e9 + 1060,
        "registrations": 1,
    }


def test_an_outage_is_logged_when_it_begins_and_when_it_ends_with_its_length(
    metrics: RosterMetrics, captured: CapturedLog, clock: Time
) -> None:
    metrics.confirmed("a-1")
    for reason in ("connection reset", *["connection refused"] * 100):
        metrics.failed(RegistrarError(reason, "unreachable"))
        clock.seconds += 0.5
    assert numbers(metrics.collect(0))["unreachable"] == 101
    assert "registered" not in numbers(metrics.collect(0))
    metrics.confirmed("a-1")
    assert messages(captured) == [
        "registered",
        "registration lost",
        "failed to register, trying again",
        "registered again",
    ]
    assert (captured.lines[-1]["away_seconds"], captured.lines[-1]["failures"]) == (50.5, 101)
    assert numbers(metrics.collect(0))["recoveries"] == 1


def test_an_agent_that_is_back_without_our_registration_is_no_failure(
    metrics: RosterMetrics, captured: CapturedLog
) -> None:
    metrics.confirmed("a-1")
    metrics.failed(RegistrarError("connection refused", "unreachable"))
    metrics.out_of_sync("the agent does not know the service")
    metrics.confirmed("a-1")
    assert messages(captured) == [
        "registered",
        "registration lost",
        "not registered, registering now",
        "registered again",
    ]


def test_an_unexpected_failure_is_counted_as_other_and_logged_with_its_traceback(
    metrics: RosterMetrics, captured: CapturedLog
) -> None:
    metrics.failed(ZeroDivisionError("oops"))
    assert numbers(metrics.collect(0)) == {"other": 1}
    assert captured.line["error"]["message"] == "oops"


def test_a_roster_that_stops_is_no_longer_registered_but_has_lost_nothing(
    metrics: RosterMetrics, captured: CapturedLog
) -> None:
    metrics.confirmed("a-1")
    metrics.stopped()
    assert "registered" not in numbers(metrics.collect(0))
    assert messages(captured) == ["registered"]


def test_another_process_sees_the_numbers(metrics: RosterMetrics) -> None:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(receiving, 1)
        os._exit(int(numbers(metrics.collect(0)) == {"registrations": 1}))
    metrics.accepted()
    os.write(sending, b"x")
    _, status = os.waitpid(child, 0)
    os.close(receiving)
    os.close(sending)
    assert os.waitstatus_to_exitcode(status) == 1


def test_a_failure_without_words_is_logged_and_counted(metrics: RosterMetrics, captured: CapturedLog) -> None:
    class Mute(Exception):  # noqa: N818 # as a plugin may call it
        def __str__(self) -> str:
            raise RuntimeError

    metrics.failed(Mute())
    assert captured.line["msg"] == "failed to register, trying again"
    assert numbers(metrics.collect(5.0)) == {"other": 1}
