"""Collectors that are slow, stuck or broken keep nobody waiting longer than they must, and no value is stale."""

import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.points import Collector, Point, PointsAt
from tests.captured_log import CapturedLog
from tests.program import eventually

SOON = 3.0
ENCODER = Encoder(TEXT_0_0_4, timestamps=False)


class Clock:
    """Collects the time at which it was called, after a function; counts its calls, and how many there were at once."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self._act = act
        self.calls = self.at_work = self.most_at_work = 0

    def collect(self, now: float) -> PointsAt:
        self.calls += 1
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            seen = time.monotonic()
            self._act()
            return PointsAt("clock", now, points=[Point("seen", "", seen, unit="seconds")])
        finally:
            self.at_work -= 1


class Hanging(Clock):
    """Hangs until its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        super().__init__(lambda: self.gate.wait(60))


class NonBlocking(Clock):
    """Never blocks, and remembers the thread in which it was called."""

    thread = 0

    def is_nonblocking(self) -> bool:
        return True

    def collect(self, now: float) -> PointsAt:
        self.thread = threading.get_ident()
        return super().collect(now)


class Other:
    """Has a name of its own beside a Clock."""

    def collect(self, now: float) -> PointsAt:
        return PointsAt("other", now, points=[Point("thing", "", 7)])


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as captured:
        yield captured


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.gate.set()
    eventually(lambda: not hanging.at_work)


def exporter(captured: CapturedLog, collectors: Mapping[str, Collector]) -> Exporter:
    return Exporter(collectors, MetricsConfig(), (), captured.log)


def request(timeout: float = 0.0, collectors: frozenset[str] | None = None) -> ScrapeRequest:
    return ScrapeRequest(ENCODER, timeout=timeout, collectors=collectors)


def value(body: bytes, series: str) -> float:
    (line,) = [line for line in body.decode().splitlines() if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


def success(body: bytes, collector: str) -> float:
    return value(body, f'stator_collector_success{{collector="{collector}"}}')


# Deadlines


def test_a_scrape_ends_in_time_with_what_has_returned(captured: CapturedLog, hanging: Hanging) -> None:
    start = time.monotonic()
    body = exporter(captured, {"hanging": hanging, "other": Other()}).scrape(request(timeout=0.3)).body
    assert 0.3 <= time.monotonic() - start < SOON
    assert (success(body, "hanging"), success(body, "other"), value(body, "other_thing")) == (0, 1, 7)
    assert value(body, 'stator_collector_duration_seconds{collector="hanging"}') == pytest.approx(0.3, abs=0.2)
    assert (captured.line["collector"], captured.line["reason"]) == ("hanging", "it did not answer in time")


def test_a_collector_that_hangs_is_not_called_again_and_piles_up_neither_threads_nor_lines(
    captured: CapturedLog, hanging: Hanging
) -> None:
    threads = threading.active_count()
    made = exporter(captured, {"hanging": hanging, "other": Other()})
    made.scrape(request(timeout=0.2))
    for _ in range(50):
        start = time.monotonic()
        body = made.scrape(request()).body
        assert time.monotonic() - start < 1
        assert (success(body, "hanging"), success(body, "other")) == (0, 1)
    assert hanging.calls == 1
    assert threading.active_count() <= threads + 3
    assert captured.line["reason"] == "it did not answer in time"


def test_a_collector_that_hung_recovers_by_itself_and_is_not_waited_for_longer_the_next_time(
    captured: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(captured, {"hanging": hanging})
    made.scrape(request(timeout=0.5))
    hanging.gate.set()
    eventually(lambda: success(made.scrape(request()).body, "hanging"))
    hanging.gate.clear()
    made.scrape(request(timeout=0.5))
    start = time.monotonic()
    assert success(made.scrape(request()).body, "hanging") == 0
    assert time.monotonic() - start < 1


def test_a_scrape_while_another_waits_for_the_stuck_is_answered_once_that_is_known(
    captured: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(captured, {"hanging": hanging, "other": Other()})
    with ThreadPoolExecutor() as clients:
        first = clients.submit(made.scrape, request(timeout=1.0))
        eventually(lambda: hanging.calls)
        start = time.monotonic()
        body = made.scrape(request()).body
        assert time.monotonic() - start < 2
        assert (success(body, "hanging"), success(body, "other")) == (0, 1)
        assert success(first.result(SOON).body, "other") == 1


def test_scrapes_that_wait_for_each_other_end_when_a_slow_collector_is_through(
    captured: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(captured, {"hanging": hanging, "other": Other()})
    with ThreadPoolExecutor() as clients:
        scrapes = [clients.submit(made.scrape, request()) for _ in range(4)]
        eventually(lambda: hanging.calls)
        hanging.gate.set()
        assert [success(each.result(SOON).body, "hanging") for each in scrapes] == [1] * 4


def test_a_slow_collector_works_for_many_scrapes_that_come_one_after_another(captured: CapturedLog) -> None:
    slow = Clock(lambda: time.sleep(0.4))
    made = exporter(captured, {"slow": slow, "other": Other()})

    def scrape(delay: float) -> tuple[float, bytes]:
        time.sleep(delay)
        return time.monotonic(), made.scrape(request(timeout=2)).body

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(scrape, [each * 0.07 for each in range(16)]))
    assert all(success(body, "slow") == 1 for _, body in answers)
    assert all(value(body, "clock_seen_seconds") >= asked for asked, body in answers)
    assert (slow.calls < 16, slow.most_at_work) == (True, 1)


def test_collectors_that_may_block_are_called_at_the_same_time(captured: CapturedLog) -> None:
    together = threading.Barrier(4)

    class Member:
        def __init__(self, name: str) -> None:
            self._name = name

        def collect(self, now: float) -> PointsAt:
            together.wait(SOON)
            return PointsAt(self._name, now)

    body = exporter(captured, {name: Member(name) for name in "abcd"}).scrape(request()).body
    assert [success(body, name) for name in "abcd"] == [1, 1, 1, 1]


def test_points_that_hang_while_they_are_taken_hang_nobody_else(captured: CapturedLog) -> None:
    gate = threading.Event()

    class Dripping:
        def collect(self, _now: float) -> Iterator[Point]:
            gate.wait(60)
            yield Point("late", "", 1)

    class DrippingLater:
        def collect(self, now: float) -> PointsAt:
            return PointsAt("dripping", now, points=Dripping().collect(now))

    collectors: dict[str, Collector] = {"dripping": Dripping(), "later": DrippingLater(), "other": Other()}
    body = exporter(captured, collectors).scrape(request(timeout=0.2)).body
    gate.set()
    assert [success(body, name) for name in collectors] == [0, 0, 1]


def test_without_collectors_there_is_an_answer_too(captured: CapturedLog) -> None:
    made = exporter(captured, {"other": Other()})
    assert b"stator_build_info 1" in made.scrape(request(collectors=frozenset())).body


def test_where_no_thread_can_be_started_those_fail_that_need_one(
    captured: CapturedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    made = exporter(captured, {"clock": NonBlocking(), "other": Other()})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        body = made.scrape(request()).body
        assert (success(body, "clock"), success(body, "other")) == (1, 0)
    assert captured.line["error"]["message"] == "can't start new thread"
    assert success(made.scrape(request()).body, "other") == 1


# Sharing


@pytest.mark.parametrize("clock", [Clock(lambda: time.sleep(0.02)), NonBlocking(lambda: time.sleep(0.02))])
def test_scrapes_that_wait_together_share_and_none_has_a_value_from_before_it_came(
    captured: CapturedLog, clock: Clock
) -> None:
    made = exporter(captured, {"clock": clock})
    requests = [request(), request(timeout=5)]

    def client(number: int) -> int:
        for _ in range(50):
            came = time.monotonic()
            body = made.scrape(requests[number % 2]).body
            assert value(body, "clock_seen_seconds") >= came
            assert success(body, "clock") == 1
        return 50

    with ThreadPoolExecutor(8) as clients:
        assert sum(clients.map(client, range(8))) == 400
    assert (clock.calls < 250, clock.most_at_work) == (True, 1)


def test_no_scrape_is_lost_when_many_come_at_once(captured: CapturedLog) -> None:
    blocking, nonblocking = Clock(), NonBlocking()
    collectors: dict[str, Collector] = {"clock": blocking, "other": Other()}
    made = [exporter(captured, collectors), exporter(captured, {"clock": nonblocking, "other": Other()})]

    def client(number: int) -> float:
        longest = 0.0
        for turn in range(300):
            came = time.monotonic()
            body = made[turn % 2].scrape(request(timeout=3.0 + (turn + number) % 3)).body
            longest = max(longest, time.monotonic() - came)
            assert value(body, "clock_seen_seconds") >= came
            assert (success(body, "clock"), success(body, "other")) == (1, 1)
        return longest

    with ThreadPoolExecutor(8) as clients:
        assert max(clients.map(client, range(8))) < 2
    assert blocking.most_at_work == nonblocking.most_at_work == 1
    assert captured.lines == []


def test_scrapes_of_those_that_never_block_are_shared_if_they_come_before_it_is_begun(captured: CapturedLog) -> None:
    clock = NonBlocking()
    made = exporter(captured, {"clock": clock})
    waiting: list[Callable[[], object]] = []
    answers = [made.submit(request(), waiting.append) for _ in range(5)]
    (begin,) = waiting
    begin()
    assert len({answer.future.result(0).unwrap().body for answer in answers}) == 1
    assert (clock.calls, clock.thread) == (1, threading.get_ident())


def test_who_submits_a_scrape_waits_for_nothing_that_may_block(captured: CapturedLog, hanging: Hanging) -> None:
    made = exporter(captured, {"other": Other(), "hanging": hanging})
    answer = made.submit(request(), operator.call)
    assert answer.result is None
    hanging.gate.set()
    assert success(answer.future.result(SOON).unwrap().body, "hanging") == 1


def test_an_encoder_at_work_for_another_is_not_waited_for(captured: CapturedLog) -> None:
    made = exporter(captured, {"clock": NonBlocking()})
    with ENCODER.lock:
        answer = made.submit(request(), operator.call)
        assert answer.result is None
    assert success(answer.future.result(SOON).unwrap().body, "clock") == 1


# Threads and memory


def test_nothing_runs_in_a_thread_before_the_first_scrape(captured: CapturedLog) -> None:
    before = threading.active_count()
    exporter(captured, {"other": Other()})
    assert threading.active_count() == before


def test_those_that_never_block_take_no_thread(captured: CapturedLog) -> None:
    before = threading.active_count()
    clock = NonBlocking()
    made = exporter(captured, {"clock": clock})
    for _ in range(3):
        assert success(made.scrape(request()).body, "clock") == 1
    assert (clock.thread, threading.active_count()) == (threading.get_ident(), before)


def test_threads_are_few_and_used_again(captured: CapturedLog) -> None:
    before = threading.active_count()
    made = exporter(captured, {"other": Other()})
    for _ in range(100):
        made.scrape(request())
    assert threading.active_count() <= before + 3


def test_threads_end_with_their_exporter(captured: CapturedLog) -> None:
    before = threading.active_count()
    for _ in range(100):
        assert success(exporter(captured, {"other": Other()}).scrape(request()).body, "other") == 1
    eventually(lambda: threading.active_count() <= before)


def test_what_was_collected_is_freed_when_it_is_answered(captured: CapturedLog) -> None:
    class Number(float):
        pass

    collected: list[weakref.ref[Number]] = []

    class Numbers:
        def collect(self, _now: float) -> Iterator[Point]:
            number = Number(7)
            collected.append(weakref.ref(number))
            yield Point("number", "", number)

    made = exporter(captured, {"numbers": Numbers()})
    with ThreadPoolExecutor() as clients:
        for scrape in [clients.submit(made.scrape, request()) for _ in range(4)]:
            assert success(scrape.result(SOON).body, "numbers") == 1
    eventually(lambda: not any(reference() for reference in collected))
