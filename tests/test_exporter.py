"""A scrape holds the points of each collector, and whether it worked."""

import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.log.logger import LoggerConfig
from stator.points import Collector, Point, PointsAt
from tests.captured_log import CapturedLog


class Good:
    """Collects one point."""

    def collect(self, now: float) -> PointsAt:
        return PointsAt("good", now, points=[Point("thing", "A good thing", 7)])


class Bad:
    """Fails each time, in one of several ways."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        return f"raises {self.error!r}"

    def collect(self, now: float) -> PointsAt:
        raise self.error


class Rotten:
    """Fails only while its points are taken, after some of them were good."""

    def __str__(self) -> str:
        return "fails half-way"

    def collect(self, now: float) -> PointsAt:
        def points() -> Iterator[Point]:
            yield Point("before", "Good so far", 1)
            msg = "out of points"
            raise RuntimeError(msg)

        return PointsAt("rotten", now, points=points())


class Returns:
    """Returns what it is given."""

    def __init__(self, collected: Any) -> None:
        self.collected = collected

    def __str__(self) -> str:
        return f"returns {self.collected!r}"

    def collect(self, _now: float) -> PointsAt:
        collected: PointsAt = self.collected
        return collected


def point(**different: Any) -> Point:
    return Point(**{"name": "thing", "desc": "", "unit": "", "type": "gauge", "value": 1, **different})


RUBBISH = [
    None,
    "good_thing 7",
    PointsAt("odd", 1.5, points=[point(value="much")]),
    PointsAt("odd", 1.5, points=[point(value=None)]),
    PointsAt("odd", 1.5, points=[point(labels=None)]),
    PointsAt("odd", 1.5, points=[point(labels=(("key",),))]),
    PointsAt("odd", 1.5, points=[point(type="gage")]),
    PointsAt("odd", 1.5, points=[point(), point()]),
    PointsAt("odd", 1.5, points=[point(), point(type="counter")]),
    PointsAt("odd", 1.5, points=[point(labels=(("", "x"),))]),
    PointsAt("odd", float("nan"), points=[point()]),
    PointsAt("odd", float("inf"), points=[point()]),
    PointsAt("odd", cast(float, None), points=[point()]),
    PointsAt("odd", 1.5, points=cast(Any, [None])),
    PointsAt("odd", 1.5, points=cast(Any, None)),
    PointsAt("odd", 1.5, labels=cast(Any, 5), points=[point()]),
]


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log", LoggerConfig(max_len=0)) as captured:
        yield captured


def exporter(captured: CapturedLog, collectors: Mapping[str, Any]) -> Exporter:
    """An exporter for which it is always 1.5 s after the epoch."""
    build = (("version", "1.2"), ("python", "3.11.7"))
    return Exporter(collectors, MetricsConfig(), build, captured.log, now=lambda: 1.5)


def request() -> ScrapeRequest:
    return ScrapeRequest(Encoder(TEXT_0_0_4, timestamps=True))


def families(exporter: Exporter) -> dict[str, Metric]:
    body = exporter.scrape(request()).body.decode()
    return {family.name: family for family in text_string_to_metric_families(body)}


def by_collector(family: Metric) -> dict[str, float]:
    return {sample.labels["collector"]: sample.value for sample in family.samples}


def test_a_scrape_holds_the_points_of_all_collectors_at_one_time(captured: CapturedLog) -> None:
    (sample,) = families(exporter(captured, {"good": Good()}))["good_thing"].samples
    assert (sample.value, sample.timestamp) == (7, 1.5)


def test_a_scrape_has_the_content_type_of_its_format(captured: CapturedLog) -> None:
    assert exporter(captured, {}).scrape(request()).content_type == TEXT_0_0_4.content_type


def test_for_each_collector_there_are_its_success_and_its_duration(captured: CapturedLog) -> None:
    class Slow:
        def collect(self, now: float) -> PointsAt:
            time.sleep(0.1)
            return PointsAt("slow", now)

    exposed = families(exporter(captured, {"good": Good(), "bad": Bad(OSError("broken")), "slow": Slow()}))
    assert by_collector(exposed["stator_collector_success"]) == {"good": 1, "bad": 0, "slow": 1}
    durations = by_collector(exposed["stator_collector_duration_seconds"])
    assert 0 < durations["good"] < 0.1 <= durations["slow"] < 5


def test_the_build_has_its_versions(captured: CapturedLog) -> None:
    (sample,) = families(exporter(captured, {}))["stator_build_info"].samples
    assert (sample.value, sample.labels) == (1, {"version": "1.2", "python": "3.11.7"})


@pytest.mark.parametrize(
    "bad",
    [Bad(OSError("broken")), Bad(SystemExit(3)), Bad(KeyboardInterrupt()), Rotten(), *map(Returns, RUBBISH)],
    ids=str,
)
def test_a_collector_that_fails_leaves_the_rest_in_place(captured: CapturedLog, bad: Collector) -> None:
    exposed = families(exporter(captured, {"bad": bad, "good": Good()}))
    assert set(exposed) == {
        "good_thing",
        "stator_collector_success",
        "stator_collector_duration_seconds",
        "stator_build_info",
    }
    assert by_collector(exposed["stator_collector_success"]) == {"bad": 0, "good": 1}


def test_of_two_collectors_that_give_the_same_series_one_fails(captured: CapturedLog) -> None:
    exposed = families(exporter(captured, {"first": Good(), "second": Good()}))
    assert by_collector(exposed["stator_collector_success"]) == {"first": 1, "second": 0}
    assert len(exposed["good_thing"].samples) == 1


@pytest.mark.parametrize(
    "bad",
    [
        Point("stator_build_info", "", 1, "counter"),
        Point("stator_collector_success", "", 1, labels=(("collector", "good"),)),
    ],
    ids=["type", "series"],
)
def test_what_conflicts_with_the_exporters_own_families_is_left_out(captured: CapturedLog, bad: Point) -> None:
    made = exporter(captured, {"bad": Returns([bad, Point("fine", "", 1)]), "good": Good()})
    for _ in range(2):
        exposed = families(made)
        assert by_collector(exposed["stator_collector_success"]) == {"bad": 0, "good": 1}
        assert exposed["stator_build_info"].type == "gauge"
        assert [sample.value for sample in exposed["fine"].samples] == [1]
    (line,) = captured.lines
    assert line["collector"] == "bad"


def test_of_families_that_conflict_the_scraped_one_is_left_out(captured: CapturedLog) -> None:
    scraped = Returns([Point("good_thing", "", 1), Point("fine", "", 2)])
    exposed = families(exporter(captured, {"scrape": scraped, "good": Good()}))
    assert by_collector(exposed["stator_collector_success"]) == {"good": 1, "scrape": 0}
    assert [sample.value for sample in exposed["good_thing"].samples] == [7]
    assert [sample.value for sample in exposed["fine"].samples] == [2]


def test_of_a_collector_only_the_families_that_conflict_are_left_out(captured: CapturedLog) -> None:
    class Both:
        def collect(self, now: float) -> Iterator[Point]:
            yield Point("good_thing", "Another's", 8)
            yield Point("own_thing", "Its own", now)

    made = exporter(captured, {"good": Good(), "both": Both(), "again": Both()})
    for _ in range(3):
        exposed = families(made)
        assert by_collector(exposed["stator_collector_success"]) == {"good": 1, "both": 0, "again": 0}
        assert [(sample.name, sample.value) for sample in exposed["own_thing"].samples] == [("own_thing", 1.5)]
        assert [sample.value for sample in exposed["good_thing"].samples] == [7]
    assert [(line["collector"], line["reason"]) for line in captured.lines] == [
        ("both", "good_thing appears twice"),
        ("again", "good_thing appears twice; own_thing appears twice"),
    ]


def test_a_family_that_is_good_again_is_exposed_again(captured: CapturedLog) -> None:
    values: list[Any] = [1, "one", "one", 2, 3]

    class Moody:
        def collect(self, _now: float) -> Iterator[Point]:
            yield Point("steady", "", 1)
            yield Point("moody", "", values[0])
            yield Point("calm", "", 2)

    made, seen = exporter(captured, {"moody": Moody()}), []
    encoder = Encoder(TEXT_0_0_4, timestamps=False)
    while values:
        lines = made.scrape(ScrapeRequest(encoder)).body.decode().splitlines()
        seen.append([line for line in lines if line.startswith(("steady", "moody", "calm"))])
        values.pop(0)
    good = [["steady 1", f"moody {value}", "calm 2"] for value in (1, 2, 3)]
    assert seen == [good[0], ["steady 1", "calm 2"], ["steady 1", "calm 2"], *good[1:]]
    assert [line["msg"] for line in captured.lines] == ["failed to collect", "collects again"]


def test_a_line_in_the_log_names_the_first_few_of_many_bad_families(captured: CapturedLog) -> None:
    points = [Point(f"bad_{letter}", "", cast(Any, None)) for letter in "abcdef"]
    exporter(captured, {"bad": Returns([Point("fine", "", 1), *points])}).scrape(request())
    reasons = [f"bad_{letter}: None is not a number" for letter in "abc"]
    assert captured.line["reason"] == f"{'; '.join(reasons)}; and 3 more"


def test_a_scrape_of_some_collectors_calls_only_those(captured: CapturedLog) -> None:
    some = evolve(request(), collectors=frozenset({"good"}))
    body = exporter(captured, {"good": Good(), "bad": Bad(OSError("broken"))}).scrape(some).body
    assert b"good_thing 7" in body
    assert b'"bad"' not in body
    assert captured.lines == []


# What collect() may return

POINTS = [Point("jobs_waiting", "", 3, labels=(("queue", "mail"),)), Point("jobs_done", "", 4, type="counter")]


class Yields:
    def collect(self, _now: float) -> Iterator[Point]:
        yield from POINTS


@pytest.mark.parametrize(
    "collector", [Yields(), Returns(POINTS), Returns(tuple(POINTS))], ids=["yields", "list", "tuple"]
)
def test_points_without_a_points_at_keep_their_names(captured: CapturedLog, collector: Any) -> None:
    exposed = families(exporter(captured, {"jobs": collector}))
    (waiting,), (done,) = exposed["jobs_waiting"].samples, exposed["jobs_done"].samples
    assert (waiting.value, waiting.labels, waiting.timestamp) == (3, {"queue": "mail"}, 1.5)
    assert (done.value, exposed["stator_collector_success"].samples[0].value) == (4, 1)


class Awaits:
    async def collect(self, now: float) -> PointsAt:
        return PointsAt("never", now)


class YieldsLater:
    async def collect(self, _now: float) -> AsyncIterator[Point]:
        yield POINTS[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("collector", "named"),
    [
        (Returns(None), "None"),
        (Returns("jobs_waiting 3"), "'jobs_waiting 3'"),
        (Returns({"jobs": 3}), "{'jobs': 3}"),
        (Awaits(), "<coroutine object Awaits.collect at "),
        (YieldsLater(), "<async_generator object YieldsLater.collect at "),
    ],
    ids=["None", "text", "dict", "coroutine", "async generator"],
)
def test_what_is_neither_a_points_at_nor_points_is_named(captured: CapturedLog, collector: Any, named: str) -> None:
    exporter(captured, {"bad": collector}).scrape(request())
    assert captured.line["reason"].startswith(f"collect() must return a PointsAt or an iterable of Points, not {named}")


# The log


def test_a_failure_is_logged_with_collector_and_error(captured: CapturedLog) -> None:
    bad = Bad(OSError(2, os.strerror(2), "/missing"))
    exporter(captured, {"good": Good(), "bad": bad}).scrape(request())
    line = captured.line
    assert (line["level"], line["msg"], line["collector"]) == ("error", "failed to collect", "bad")
    assert line["error"]["type"] == "FileNotFoundError"
    assert line["error"]["message"] == "[Errno 2] No such file or directory: '/missing'"
    assert "test_exporter.py" in line["error"]["traceback"]


def test_a_bad_point_is_logged_by_its_name_and_without_a_traceback(captured: CapturedLog) -> None:
    bad = Returns(PointsAt("odd", 1.5, points=[point(value="much", labels=(("key", "x"),))]))
    exporter(captured, {"bad": bad, "good": Good()}).scrape(request())
    assert (captured.line["msg"], captured.line["collector"]) == ("failed to collect", "bad")
    assert "odd_thing" in captured.line["reason"]
    assert "error" not in captured.line


def test_a_collector_that_recovers_is_exposed_again_and_only_the_changes_are_logged(captured: CapturedLog) -> None:
    class Moody:
        mood: Bad | Good = Bad(OSError("not now"))

        def collect(self, now: float) -> PointsAt:
            return self.mood.collect(now)

    moody = Moody()
    made = exporter(captured, {"moody": moody, "other": Returns([])})
    for _ in range(3):
        assert "good_thing" not in families(made)
    moody.mood = Good()
    for _ in range(3):
        assert "good_thing" in families(made)
    assert [(line["level"], line["msg"], line["collector"]) for line in captured.lines] == [
        ("error", "failed to collect", "moody"),
        ("info", "collects again", "moody"),
    ]
