"""Health checks that pass, fail, hang and recover."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stator.web.checks import Checks, Health
from stator.web.health import Check
from tests.captured_log import CapturedLog
from tests.program import eventually

TIMEOUT = 0.3


class Stuck:
    """A check that hangs until it may go."""

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
    return checks.run()


def states(health: Health) -> Any:
    assert not health.ok
    return json.loads(health.body)["checks"]


def checks_of(story: CapturedLog, timeout: float = TIMEOUT, **checks: Check) -> Checks:
    return Checks(checks, story.log, timeout)


def test_no_checks_are_healthy_at_once(story: CapturedLog) -> None:
    health = ask(checks_of(story))
    assert (health.ok, health.body) == (True, b'{"status":"ok"}')


def test_one_that_hangs_delays_no_other(story: CapturedLog, stuck: Stuck) -> None:
    health = ask(checks_of(story, stuck=stuck, good=passes, bad=fails))
    assert states(health) == {
        "stuck": "it did not answer in time",
        "good": "ok",
        "bad": "LookupError: no such table",
    }


def test_one_that_is_stuck_is_not_asked_again_before_it_has_come_back(story: CapturedLog, stuck: Stuck) -> None:
    checks = checks_of(story, stuck=stuck)
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


def test_a_slow_one_passes_for_all_who_ask_at_the_same_time(story: CapturedLog) -> None:
    checks = checks_of(story, timeout=10.0, slow=lambda: time.sleep(0.2))
    with ThreadPoolExecutor() as probes:
        assert all(health.ok for health in probes.map(lambda _: ask(checks), range(3)))


def test_a_coroutine_that_hangs_is_cancelled_in_time(story: CapturedLog) -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    assert states(ask(checks_of(story, slow=hang))) == {"slow": "it did not answer in time"}
    assert cancelled.wait(10)


def test_a_coroutine_that_does_not_let_itself_be_cancelled_is_not_asked_again(story: CapturedLog, stuck: Stuck) -> None:
    async def hang() -> None:
        stuck()  # an event loop of its own, as over WSGI: it harms nobody else

    checks = checks_of(story, slow=hang)
    for _ in range(3):
        assert not ask(checks).ok
    assert stuck.asked == 1


def test_a_checks_own_timeout_error_is_its_own(story: CapturedLog) -> None:
    async def times_out() -> None:
        msg = "the replica is away"
        raise TimeoutError(msg)

    assert states(ask(checks_of(story, replica=times_out))) == {"replica": "TimeoutError: the replica is away"}


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

    assert states(ask(checks_of(story, bad=fail))) == {"bad": state}


def test_it_is_logged_when_a_check_begins_to_fail_and_when_it_passes_again(story: CapturedLog) -> None:
    failing = True

    def check() -> bool:
        if failing:
            fails()
        return True

    checks = checks_of(story, db=check)
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


def test_another_reason_is_logged(story: CapturedLog, stuck: Stuck) -> None:
    acts: list[Check] = [fails, stuck]

    def check() -> None:
        acts.pop(0)()

    checks = checks_of(story, db=check)
    for _ in range(3):
        ask(checks)
    assert [line.get("reason", "") for line in story.lines] == ["", "it did not answer in time"]
