"""What becomes of a registration, as the log tells it and the metrics show it."""

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
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as made:
        yield made


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def state(story: CapturedLog, clock: Time) -> RosterMetrics:
    return RosterMetrics(story.log, now=lambda: 1e9 + clock(), clock=clock)


def numbers(points_at: PointsAt) -> dict[str, object]:
    """What is not 0, by name or by reason."""
    named = {dict(point.labels).get("reason", point.name): point.value for point in points_at.points}
    return {name: value for name, value in named.items() if value}


def told(story: CapturedLog) -> list[str]:
    return [line["msg"] for line in story.lines]


def test_every_number_is_there_from_the_start(state: RosterMetrics) -> None:
    points = list(state.collect(5.0).points)
    assert numbers(state.collect(5.0)) == {}
    assert [dict(point.labels)["reason"] for point in points if point.name == "failures"] == list(REASONS)


def test_a_registration_is_told_once_and_confirmed_again_and_again(
    state: RosterMetrics, story: CapturedLog, clock: Time
) -> None:
    state.sent()
    state.confirmed("a-1")
    clock.seconds += 60
    state.confirmed("a-1")
    assert told(story) == ["registered"]
    assert numbers(state.collect(0)) == {
        "registered": 1,
        "last_confirmed_timestamp": 1e9 + 1060,
        "registrations": 1,
    }


def test_an_outage_is_told_when_it_begins_and_when_it_ends_with_its_length(
    state: RosterMetrics, story: CapturedLog, clock: Time
) -> None:
    state.confirmed("a-1")
    for reason in ("connection reset", *["connection refused"] * 100):
        state.failed(RegistrarError(reason, "unreachable"))
        clock.seconds += 0.5
    assert numbers(state.collect(0))["unreachable"] == 101
    assert "registered" not in numbers(state.collect(0))
    state.confirmed("a-1")
    assert told(story) == ["registered", "registration lost", "failed to register, trying again", "registered again"]
    assert (story.lines[-1]["away_seconds"], story.lines[-1]["failures"]) == (50.5, 101)
    assert numbers(state.collect(0))["recoveries"] == 1


def test_an_agent_that_is_back_and_has_forgotten_us_is_no_failure(state: RosterMetrics, story: CapturedLog) -> None:
    state.confirmed("a-1")
    state.failed(RegistrarError("connection refused", "unreachable"))
    state.missed("the agent does not know the service")
    state.confirmed("a-1")
    assert told(story) == ["registered", "registration lost", "not registered, registering now", "registered again"]


def test_a_failure_that_nobody_foresaw_is_other_and_told_in_full(state: RosterMetrics, story: CapturedLog) -> None:
    state.failed(ZeroDivisionError("oops"))
    assert numbers(state.collect(0)) == {"other": 1}
    assert story.line["error"]["message"] == "oops"


def test_whoever_leaves_is_no_longer_registered_but_not_lost(state: RosterMetrics, story: CapturedLog) -> None:
    state.confirmed("a-1")
    state.left()
    assert "registered" not in numbers(state.collect(0))
    assert told(story) == ["registered"]


def test_another_process_sees_the_numbers(state: RosterMetrics) -> None:
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(receiving, 1)
        os._exit(int(numbers(state.collect(0)) == {"registrations": 1}))
    state.sent()
    os.write(sending, b"x")
    _, status = os.waitpid(child, 0)
    os.close(receiving)
    os.close(sending)
    assert os.waitstatus_to_exitcode(status) == 1
