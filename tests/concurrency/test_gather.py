"""Calls are made at the same time, and those that don't return in time have failed."""

import threading
import time
from collections.abc import Callable, Iterator
from math import inf

import pytest

from stator.concurrency.gather import gather, time_left
from stator.concurrency.single_flight import CollectionTimeout, SingleFlight
from stator.concurrency.threads import DaemonThreads

SOON = 10.0


@pytest.fixture
def flights() -> SingleFlight[str, object]:
    return SingleFlight(DaemonThreads().run)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def fail() -> None:
    msg = "broken"
    raise OSError(msg)


def test_outcomes_are_in_the_order_of_the_calls(flights: SingleFlight[str, object]) -> None:
    calls: dict[str, Callable[[], object]] = {"a": lambda: 1, "b": fail, "c": lambda: 3}
    outcomes = gather(flights, calls, SOON, {"a"})
    assert [(key, outcome.value) for key, outcome in outcomes.items()] == [("a", 1), ("b", None), ("c", 3)]
    assert str(outcomes["b"].error) == "broken"


def test_without_calls_there_are_no_outcomes(flights: SingleFlight[str, object]) -> None:
    assert gather(flights, {}, SOON) == {}


def test_a_call_knows_how_long_it_is_waited_for(flights: SingleFlight[str, object]) -> None:
    outcomes = gather(flights, dict.fromkeys("ab", time_left), SOON, {"b"})
    assert all(isinstance(each.value, float) and 0 < each.value <= SOON for each in outcomes.values())
    assert time_left() == inf


def test_calls_are_made_at_the_same_time(flights: SingleFlight[str, object]) -> None:
    together = threading.Barrier(4)
    outcomes = gather(flights, dict.fromkeys("abcd", lambda: together.wait(SOON)), SOON)
    assert sorted(str(outcome.value) for outcome in outcomes.values()) == ["0", "1", "2", "3"]


def test_those_that_hang_have_one_deadline_together(flights: SingleFlight[str, object], gate: threading.Event) -> None:
    began = time.monotonic()
    outcomes = gather(flights, {**dict.fromkeys("abc", lambda: gate.wait(60)), "d": lambda: 4}, 0.2)
    assert 0.2 <= time.monotonic() - began < SOON / 2
    assert [type(outcome.error) for outcome in outcomes.values()] == [*[CollectionTimeout] * 3, type(None)]
    assert outcomes["a"].seconds == pytest.approx(0.2, abs=0.15)


def test_those_that_never_block_are_called_here_while_the_others_are_at_work(
    flights: SingleFlight[str, object],
) -> None:
    began, ended = threading.Event(), threading.Event()

    def blocks() -> int:
        began.set()
        ended.wait(SOON)
        return threading.get_ident()

    def never_blocks() -> int:
        assert began.wait(SOON)
        ended.set()
        return threading.get_ident()

    outcomes = gather(flights, {"never": never_blocks, "blocks": blocks}, SOON, {"never"})
    assert outcomes["never"].value == threading.get_ident()
    assert outcomes["blocks"].value not in (None, threading.get_ident())
