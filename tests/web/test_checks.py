"""Health checks that pass, fail, hang and recover."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stator.web.checks import Check, Checks, Health
from tests.captured_log import CapturedLog
from tests.program import eventually

PATIENCE = 0.02
TIMEOUT = 0.3


class Stuck:
    """A check that hangs until it's let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = threading.Event()

    def __call__(self) -> None:
        self.asked += 1
        self.go.wait(60)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    check = Stuck()
    yield check
    check.go.set()


def passes() -> None:
    pass


def fails() -> None:
    msg = "no such table"
    raise LookupError(msg)


def ask(checks: Checks) -> Health:
    return checks.begin().wait(PATIENCE, checks.timeout)


def states(health: Health) -> Any:
    assert not health.ok
    return json.loads(health.body)["checks"]


def made(story: CapturedLog, timeout: float = TIMEOUT, **checks: Check) -> Checks:
    return Checks(checks, story.log, timeout)


def test_no_checks_are_healthy_at_once(story: CapturedLog) -> None:
    health = made(story).begin().answer.result(0)
    assert (health.ok, health.body) == (True, b'{"status":"ok"}')


def test_one_that_hangs_holds_up_no_other(story: CapturedLog, stuck: Stuck) -> None:
    health = ask(made(story, stuck=stuck, good=passes, bad=fails))
    assert states(health) == {
        "stuck": "it did not answer in time",
        "good": "ok",
        "bad": "LookupError: no such table",
    }


def test_one_that_is_stuck_is_not_asked_again_before_it_has_come_back(story: CapturedLog, stuck: Stuck) -> None:
    checks = made(story, stuck=stuck)
    ask(checks)
    threads = threading.active_count()
    for _ in range(20):
        (state,) = states(ask(checks)).values()
    assert "still at work for an earlier request, since 0." in state
    assert stuck.asked == 1
    assert threading.active_count() <= threads + 2
    stuck.go.set()
    eventually(lambda: ask(checks).ok)
    assert stuck.asked == 2


def test_a_slow_one_that_is_asked_by_several_at_once_passes_for_all(story: CapturedLog) -> None:
    checks = made(story, timeout=10.0, slow=lambda: time.sleep(0.2))
    rounds = [checks.begin() for _ in range(3)]
    assert all(each.wait(PATIENCE, checks.timeout).ok for each in rounds)


def test_a_coroutine_that_hangs_is_cancelled_in_time(story: CapturedLog) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    assert states(ask(made(story, slow=hang))) == {"slow": "it did not answer in time"}
    assert cancelled.wait(10)


def test_a_coroutine_that_does_not_let_itself_be_cancelled_is_not_asked_again(story: CapturedLog, stuck: Stuck) -> None:
    async def hang() -> None:
        stuck()  # an event loop of its own, as over WSGI: it harms nobody else

    checks = made(story, slow=hang)
    for _ in range(3):
        assert not ask(checks).ok
    assert stuck.asked == 1


def test_a_checks_own_timeout_is_told_as_its_own(story: CapturedLog) -> None:
    async def times_out() -> None:
        msg = "the replica is away"
        raise TimeoutError(msg)

    assert states(ask(made(story, replica=times_out))) == {"replica": "TimeoutError: the replica is away"}


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ConnectionError("amqp://me:geheim@queue is away"), "ConnectionError: amqp://--redacted--@queue is away"),
        (ConnectionError("amqp://me:geh@eim@queue is away"), "ConnectionError: amqp://--redacted--@queue is away"),
        (ValueError("x" * 1000), f"ValueError: {'x' * 288}--truncated--"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_reasons_are_short_and_without_passwords(story: CapturedLog, error: BaseException, state: str) -> None:
    def fail() -> None:
        raise error

    assert states(ask(made(story, bad=fail))) == {"bad": state}


def test_the_log_tells_when_a_check_begins_to_fail_and_when_it_passes_again(story: CapturedLog) -> None:
    failing = True

    def check() -> bool:
        if failing:
            fails()
        return True

    checks = made(story, db=check)
    for _ in range(3):
        assert not ask(checks).ok
    failing = False
    for _ in range(3):
        assert ask(checks).ok
    assert [(line["level"], line["msg"], line["check"]) for line in story.lines] == [
        ("error", "health check fails", "db"),
        ("info", "health check passes again", "db"),
    ]
    assert story.lines[0]["error"]["message"] == "no such table"


def test_the_log_tells_of_another_reason(story: CapturedLog, stuck: Stuck) -> None:
    acts: list[Check] = [fails, stuck]

    def check() -> None:
        acts.pop(0)()

    checks = made(story, db=check)
    for _ in range(3):
        ask(checks)
    assert [line.get("reason", "") for line in story.lines] == ["", "it did not answer in time"]
