"""One call at a time, shared by those who wait, fresh for each of them, and never waited for once it is stuck."""

import contextvars
import operator
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stator.concurrency.single_flight import Call, CollectionTimeout, SingleFlight
from stator.concurrency.threads import DaemonThreads
from tests.program import eventually

SOON = 10.0


class Work:
    """Returns when it was called; counts its calls, and how many there were at once. It can be made to hang."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls = self.at_work = self.most_at_work = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> float:
        self.calls += 1
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        began = time.monotonic()
        time.sleep(self.seconds)
        self.go.wait(60)
        self.at_work -= 1
        return began


@pytest.fixture
def flights() -> SingleFlight[str, float]:
    return SingleFlight(DaemonThreads().run)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.go.set()


def submit(flights: SingleFlight[str, float], work: Callable[[], float], timeout: float = SOON) -> Call[float]:
    return flights.submit("work", work, time.monotonic() + timeout)


def result(call: Call[float]) -> float:
    return call.outcome(time.monotonic() + SOON).unwrap()


def stuck(call: Call[float], timeout: float = SOON) -> float:
    """For how long an earlier call has been stuck where one fails."""
    error = call.outcome(time.monotonic() + timeout).error
    assert isinstance(error, CollectionTimeout)
    return error.stuck


def hang(flights: SingleFlight[str, float], work: Work, timeout: float = SOON) -> Call[float]:
    work.go.clear()
    call = submit(flights, work, timeout)
    eventually(lambda: work.at_work)
    return call


def test_those_who_come_while_a_call_is_at_work_share_the_next(flights: SingleFlight[str, float], work: Work) -> None:
    first = hang(flights, work)
    came = time.monotonic()
    later = [submit(flights, work) for _ in range(5)]
    work.go.set()
    assert result(first) < came
    assert len({result(call) for call in later}) == 1
    assert result(later[0]) >= came
    assert work.calls == 2


def test_nobody_gets_a_result_from_before_they_came(flights: SingleFlight[str, float]) -> None:
    work = Work(0.001)

    def client(_: int) -> None:
        for _ in range(100):
            came = time.monotonic()
            assert result(submit(flights, work)) >= came

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(client, range(8)))
    assert work.most_at_work == 1
    assert work.calls < 800


def test_calls_of_other_keys_do_not_wait(flights: SingleFlight[str, float], work: Work) -> None:
    hang(flights, work)
    assert flights.submit("other", lambda: 7.0, time.monotonic() + SOON).outcome(time.monotonic() + SOON).value == 7.0


def test_a_call_that_does_not_return_in_time_has_failed(flights: SingleFlight[str, float], work: Work) -> None:
    assert stuck(hang(flights, work, 0.05), 0.05) == 0


def test_a_stuck_call_is_neither_joined_nor_repeated_until_it_returns(
    flights: SingleFlight[str, float], work: Work
) -> None:
    stuck(hang(flights, work, 0.05), 0.1)
    began = time.monotonic()
    for _ in range(50):
        assert 0.05 < stuck(submit(flights, work)) < 1
    assert time.monotonic() - began < 1
    work.go.set()
    eventually(lambda: submit(flights, work).outcome(time.monotonic() + SOON).error is None)
    assert work.calls == 2


def test_who_waits_for_another_call_to_end_fails_when_that_is_known_to_be_stuck(
    flights: SingleFlight[str, float], work: Work
) -> None:
    hang(flights, work, 0.2)
    began = time.monotonic()
    assert stuck(submit(flights, work)) > 0.1
    assert 0.1 < time.monotonic() - began < SOON / 2


def test_a_call_that_nobody_waits_for_any_more_is_not_made(flights: SingleFlight[str, float], work: Work) -> None:
    first = hang(flights, work)
    stuck(submit(flights, work, 0.01), 0.05)
    work.go.set()
    result(first)
    time.sleep(0.1)
    assert work.calls == 1
    assert result(submit(flights, work))


def test_a_call_may_take_as_long_as_the_last_of_those_who_wait_has_time(
    flights: SingleFlight[str, float], work: Work
) -> None:
    first = hang(flights, work)
    impatient, patient = submit(flights, work, 0.01), submit(flights, work)
    assert patient is impatient
    stuck(impatient, 0.05)
    work.go.set()
    assert result(patient) > result(first)


def test_an_error_is_an_outcome_whatever_it_is(flights: SingleFlight[str, float]) -> None:
    def fail() -> float:
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        result(submit(flights, fail))


def test_nobody_can_cancel_the_result_of_the_others(flights: SingleFlight[str, float], work: Work) -> None:
    hang(flights, work)
    call = submit(flights, work)
    assert not call.future.cancel()
    work.go.set()
    assert result(call)


def test_a_call_is_made_in_the_context_of_who_asked_first() -> None:
    request_id = contextvars.ContextVar("request_id", default="none")
    flights: SingleFlight[str, str] = SingleFlight(DaemonThreads().run)
    request_id.set("one")
    call = flights.submit("work", request_id.get, time.monotonic() + SOON)
    assert call.outcome(time.monotonic() + SOON).value == "one"


def test_a_call_that_never_blocks_can_be_made_in_the_callers_thread(flights: SingleFlight[str, float]) -> None:
    call = flights.submit("work", threading.get_ident, time.monotonic() + SOON, operator.call)
    assert call.future.result(0).value == threading.get_ident()


def test_those_who_come_before_a_call_has_begun_share_it() -> None:
    waiting: list[Callable[[], object]] = []
    flights: SingleFlight[str, float] = SingleFlight(waiting.append)
    calls = [submit(flights, time.monotonic) for _ in range(3)]
    (begin,) = waiting
    began = time.monotonic()
    begin()
    assert [result(call) >= began for call in calls] == [True] * 3


def test_where_no_thread_can_be_started_all_who_wait_fail_and_the_next_may_work(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    flights: SingleFlight[str, float] = SingleFlight(DaemonThreads().run)

    def refuse(_thread: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                result(submit(flights, work))
    assert result(submit(flights, work))
