"""Collectors that are slow, stuck or broken keep nobody waiting longer than they must, and no value is stale."""

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from stator.concurrency.gather import Round
from stator.concurrency.single_flight import STUCK_AFTER, Outcome, SingleFlight
from stator.concurrency.threads import DaemonThreads
from stator.exporter import BRIEF, Exporter, MetricsConfig, ScrapeRequest, ScrapeResponse
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.points import Collector, Point, PointsAt
from tests.captured_log import CapturedLog
from tests.program import eventually

SOON = 3.0
FORMATTER = Encoder(TEXT_0_0_4, timestamps=False)


class Clock:
    """Collects the time at which it was asked, by way of a function; counts how often, and how often at once."""

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
    """Hangs until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        super().__init__(lambda: self.gate.wait(60))


class Other:
    """Has a name of its own beside a Clock."""

    def collect(self, now: float) -> PointsAt:
        return PointsAt("other", now, points=[Point("thing", "", 7)])


class Broken:
    """Never waits, and always fails."""

    def is_nonblocking(self) -> bool:
        return True

    def collect(self, now: float) -> PointsAt:
        msg = f"no points at {now}"
        raise OSError(msg)


class NonBlockingCollector(Clock):
    """Says that it never waits; gives so many points."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self._labels = [(("number", str(number)),) for number in range(size)]
        self.thread = ""

    def is_nonblocking(self) -> bool:
        return True

    def collect(self, now: float) -> PointsAt:
        super().collect(now)
        self.thread = threading.current_thread().name
        points = [Point("thing", "", 7, labels=labels) for labels in self._labels]
        return PointsAt("prompt", now, points=points)


@pytest.fixture
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path_factory.mktemp("story") / "log") as made:
        yield made


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.gate.set()
    eventually(lambda: not made.at_work)


def exporter(story: CapturedLog, collectors: Mapping[str, Collector]) -> Exporter:
    return Exporter(collectors, MetricsConfig(), (), story.log)


def ask(timeout: float = 0.0, only: frozenset[str] | None = None) -> ScrapeRequest:
    return ScrapeRequest(FORMATTER, timeout=timeout, only=only)


def value(body: bytes, series: str) -> float:
    (line,) = [line for line in body.decode().splitlines() if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


def success(body: bytes, collector: str) -> float:
    return value(body, f'stator_collector_success{{collector="{collector}"}}')


def collecting() -> int:
    return sum(thread.name == "collecting" for thread in threading.enumerate())


# Deadlines


def test_a_scrape_ends_in_time_with_what_has_finished(story: CapturedLog, hanging: Hanging) -> None:
    start = time.monotonic()
    body = exporter(story, {"hanging": hanging, "other": Other()}).scrape(ask(timeout=0.3)).body
    assert 0.3 <= time.monotonic() - start < SOON
    assert (success(body, "hanging"), success(body, "other"), value(body, "other_thing")) == (0, 1, 7)
    assert value(body, 'stator_collector_duration_seconds{collector="hanging"}') == pytest.approx(0.3, abs=0.2)
    assert (story.line["collector"], story.line["reason"]) == ("hanging", "it did not answer in time")


def test_a_collector_that_hangs_is_not_asked_again_and_piles_up_no_threads(
    story: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(story, {"hanging": hanging, "other": Other()})
    made.scrape(ask(timeout=STUCK_AFTER))
    before = collecting()
    for _ in range(50):
        start = time.monotonic()
        body = made.scrape(ask()).body
        assert time.monotonic() - start < STUCK_AFTER
        assert (success(body, "hanging"), success(body, "other")) == (0, 1)
    assert hanging.calls == 1
    assert collecting() <= before + 2
    assert "still at work for an earlier request" in story.lines[-1]["reason"]


def test_a_collector_that_hung_recovers_by_itself_and_is_not_waited_for_longer_the_next_time(
    story: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(story, {"hanging": hanging})
    made.scrape(ask(timeout=0.5))
    hanging.gate.set()
    eventually(lambda: success(made.scrape(ask()).body, "hanging"))
    hanging.gate.clear()
    made.scrape(ask(timeout=STUCK_AFTER))
    start = time.monotonic()
    assert success(made.scrape(ask()).body, "hanging") == 0
    assert time.monotonic() - start < STUCK_AFTER


def test_a_scrape_while_another_waits_for_the_stuck_is_answered_once_it_is_known(
    story: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(story, {"hanging": hanging, "other": Other()})
    with ThreadPoolExecutor() as clients:
        first = clients.submit(made.scrape, ask())
        eventually(lambda: hanging.calls)
        start = time.monotonic()
        body = made.scrape(ask()).body
        assert time.monotonic() - start < STUCK_AFTER + 1
        assert (success(body, "hanging"), success(body, "other")) == (0, 1)
        assert not first.done()
        hanging.gate.set()
        assert success(first.result(SOON).body, "hanging") == 1


def test_a_slow_collector_works_for_many_scrapes_that_come_one_after_another(story: CapturedLog) -> None:
    slow = Clock(lambda: time.sleep(0.4))
    made = exporter(story, {"slow": slow, "other": Other()})

    def scrape(delay: float) -> tuple[float, bytes]:
        time.sleep(delay)
        return time.monotonic(), made.scrape(ask(timeout=2)).body

    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(scrape, [each * 0.07 for each in range(16)]))
    assert all(success(body, "slow") == 1 for _, body in answers)
    assert all(value(body, "clock_seen_seconds") >= asked for asked, body in answers)
    assert (slow.calls < 16, slow.most_at_work) == (True, 1)


def test_collectors_that_take_long_are_asked_at_the_same_time(story: CapturedLog) -> None:
    together = threading.Barrier(4)

    def member(name: str) -> Collector:
        class Member:
            def collect(self, now: float) -> PointsAt:
                together.wait(SOON)
                return PointsAt(name, now)

        return Member()

    body = exporter(story, {name: member(name) for name in "abcd"}).scrape(ask()).body
    assert [success(body, name) for name in "abcd"] == [1, 1, 1, 1]


def test_points_that_hang_while_they_are_taken_hang_nobody_else(story: CapturedLog) -> None:
    gate = threading.Event()

    class Dripping:
        def collect(self, now: float) -> PointsAt:
            def points() -> Iterator[Point]:
                gate.wait(60)
                yield Point("late", "", 1)

            return PointsAt("dripping", now, points=points())

    body = exporter(story, {"dripping": Dripping(), "other": Other()}).scrape(ask(timeout=0.2)).body
    gate.set()
    assert (success(body, "dripping"), success(body, "other")) == (0, 1)


def test_without_collectors_there_is_an_answer_too(story: CapturedLog) -> None:
    made = exporter(story, {"other": Other()})
    assert b"stator_build_info 1" in made.scrape(ask(only=frozenset())).body


# Sharing


def test_scrapes_that_wait_together_share_and_none_has_a_value_from_before_it_asked(story: CapturedLog) -> None:
    clock = Clock(lambda: time.sleep(0.02))
    made = exporter(story, {"clock": clock})
    asks = [ask(), ask(timeout=5)]

    def client(number: int) -> int:
        for _ in range(50):
            asked = time.monotonic()
            body = made.scrape(asks[number % 2]).body
            assert value(body, "clock_seen_seconds") >= asked
            assert success(body, "clock") == 1
        return 50

    with ThreadPoolExecutor(8) as clients:
        assert sum(clients.map(client, range(8))) == 400
    assert (clock.calls < 250, clock.most_at_work) == (True, 1)


def test_no_scrape_is_lost_when_many_come_at_once(story: CapturedLog) -> None:
    clock = Clock()
    made = exporter(story, {"clock": clock, "other": Other()})

    def client(number: int) -> float:
        longest = 0.0
        for turn in range(300):
            asked = time.monotonic()
            body = made.scrape(ask(timeout=3.0 + (turn + number) % 3)).body
            longest = max(longest, time.monotonic() - asked)
            assert value(body, "clock_seen_seconds") >= asked
            assert (success(body, "clock"), success(body, "other")) == (1, 1)
        return longest

    with ThreadPoolExecutor(8) as clients:
        assert max(clients.map(client, range(8))) < 2
    assert clock.most_at_work == 1
    assert story.lines == []


# A round's and a station's corners


def test_a_round_that_is_hurried_before_its_turn_begins_at_once_and_nobody_joins_it_later(
    story: CapturedLog, hanging: Hanging
) -> None:
    made = exporter(story, {"hanging": hanging, "other": Other()})
    first, second = made.begin(ask()), made.begin(ask())
    second.hurry()
    third = made.begin(ask())
    second.close()
    fourth = made.begin(ask())
    assert len({id(each) for each in (first, second, third, fourth)}) >= 3
    assert second not in (third, fourth)
    for each in (first, third, fourth):
        each.hurry()
        each.close()
    bodies = [each.answer.result(SOON).body for each in (first, second, third, fourth)]
    assert all(0 <= value(body, 'stator_collector_duration_seconds{collector="hanging"}') < SOON for body in bodies)
    eventually(lambda: not made._running and not made._next)


def test_hurrying_or_closing_a_round_that_is_over_changes_nothing(story: CapturedLog) -> None:
    made = exporter(story, {"other": Other()})
    round_ = made.begin(ask())
    body = round_.answer.result(SOON).body
    for _ in range(3):
        round_.hurry()
        round_.close()
    assert round_.answer.result().body == body
    assert success(made.scrape(ask()).body, "other") == 1


def test_nobody_can_cancel_the_answer_of_the_others(story: CapturedLog, hanging: Hanging) -> None:
    round_ = exporter(story, {"hanging": hanging}).begin(ask())
    assert not round_.answer.cancel()
    hanging.gate.set()
    assert success(round_.answer.result(SOON).body, "hanging") == 1


def test_an_answer_that_can_not_be_made_is_told_to_who_waits_and_lets_the_next_begin() -> None:
    over: list[object] = []

    def fail(_outcomes: dict[str, Outcome], _stamp: float) -> bytes:
        msg = "no paper"
        raise OSError(msg)

    stations = {"other": SingleFlight(Other(), time.monotonic)}
    round_: Round[bytes] = Round(
        stations,
        1.0,
        now=time.time,
        clock=time.monotonic,
        crew=DaemonThreads(),
        finish=fail,
        is_brief=lambda _: True,
        let_go=over.append,
    )
    round_.begin()
    with pytest.raises(OSError, match="no paper"):
        round_.answer.result(SOON)
    eventually(lambda: over == [round_])


def test_rounds_closed_while_they_end_are_answered_once(story: CapturedLog) -> None:
    made = exporter(story, {"clock": Clock(lambda: time.sleep(0.001)), "other": Other()})
    for _ in range(200):
        round_ = made.begin(ask())
        round_.hurry()
        round_.close()
        assert success(round_.answer.result(SOON).body, "other") in (0, 1)
    assert eventually(lambda: success(made.scrape(ask()).body, "clock")) == 1


def test_nothing_runs_in_a_thread_before_the_first_scrape(story: CapturedLog) -> None:
    before = threading.active_count()
    exporter(story, {"other": Other()})
    assert threading.active_count() == before


def test_idle_threads_are_few_and_used_again(story: CapturedLog) -> None:
    before = collecting()
    made = exporter(story, {"other": Other()})
    for _ in range(100):
        made.scrape(ask())
    assert collecting() <= before + 2


def test_what_was_collected_is_let_go_when_it_is_answered(story: CapturedLog) -> None:
    class Big:
        def collect(self, now: float) -> PointsAt:
            return PointsAt("big", now, points=[Point("b", "", nth, labels=(("n", str(nth)),)) for nth in range(9)])

    def kept() -> bool:
        gc.collect()
        rounds = (each.answer.result() for each in gc.get_objects() if isinstance(each, Round) and each.answer.done())
        return any(isinstance(answer, ScrapeResponse) and b"big_b" in answer.body for answer in rounds)

    made = exporter(story, {"big": Big()})
    for _ in range(3):
        assert b"big_b" in made.scrape(ask()).body
    assert eventually(lambda: not kept())


# Those that never wait


def test_where_nobody_waits_a_round_is_over_when_it_has_begun(story: CapturedLog) -> None:
    made = exporter(story, {"one": NonBlockingCollector(), "other": NonBlockingCollector()})
    before = collecting()
    for _ in range(3):
        assert success(made.begin(ask()).answer.result(0).body, "one") == 1
    assert collecting() <= before


def test_who_begins_a_round_does_not_wait_if_one_of_many_may(story: CapturedLog, hanging: Hanging) -> None:
    made = exporter(story, {"prompt": NonBlockingCollector(), "hanging": hanging})
    round_ = made.begin(ask())
    assert not round_.answer.done()
    hanging.gate.set()
    assert success(round_.answer.result(SOON).body, "prompt") == 1


def test_many_points_of_those_that_never_wait_are_formatted_by_another_thread(story: CapturedLog) -> None:
    prompt = NonBlockingCollector(size=BRIEF + 1)
    with FORMATTER.lock:
        round_ = exporter(story, {"prompt": prompt}).begin(ask())
        assert prompt.thread == threading.current_thread().name
    assert success(round_.answer.result(SOON).body, "prompt") == 1


def test_a_formatter_at_work_for_another_is_not_waited_for(story: CapturedLog) -> None:
    made = exporter(story, {"prompt": NonBlockingCollector()})
    with FORMATTER.lock:
        round_ = made.begin(ask())
        assert not round_.answer.done()
    assert success(round_.answer.result(SOON).body, "prompt") == 1


def test_one_that_never_waits_and_fails_fails_alone(story: CapturedLog) -> None:
    made = exporter(story, {"bad": Broken(), "prompt": NonBlockingCollector()})
    body = made.begin(ask()).answer.result(0).body
    assert (success(body, "bad"), success(body, "prompt")) == (0, 1)
