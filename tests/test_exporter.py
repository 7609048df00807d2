"""A scrape holds what every collector says, and how each fared."""

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias, cast

import orjson
import pytest
from attrs import evolve
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.log.logger import Log, LoggerConfig
from stator.log.writer import Sink
from stator.points import Collector, Point, PointsAt


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
    """Fails only when its points are written, after some of them were good."""

    def __str__(self) -> str:
        return "fails half-way"

    def collect(self, now: float) -> PointsAt:
        def points() -> Iterator[Point]:
            yield Point("before", "Good so far", 1)
            msg = "out of points"
            raise RuntimeError(msg)

        return PointsAt("rotten", now, points=points())


class Gives:
    """Gives what no exposition can hold."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def __str__(self) -> str:
        return f"gives {self.given!r}"

    def collect(self, _now: float) -> PointsAt:
        given: PointsAt = self.given
        return given


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


ReadLog: TypeAlias = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[tuple[Log, ReadLog]]:
    path = tmp_path / "log"
    with path.open("ab") as file:
        log = LoggerConfig(max_len=0).build(Sink(file.fileno()), terminal=False)
        yield log, lambda: [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture
def log(log_file: tuple[Log, ReadLog]) -> Log:
    return log_file[0]


@pytest.fixture
def told(log_file: tuple[Log, ReadLog]) -> ReadLog:
    return log_file[1]


def exporter(log: Log, collectors: Mapping[str, Collector]) -> Exporter:
    """An exporter whose time stands still at 1.5 s, and for which each look at the clock takes a quarter."""
    ticks = count(0.0, 0.25)
    build = (("version", "1.2"), ("python", "3.11.7"))
    return Exporter(collectors, MetricsConfig(), build, log, now=lambda: 1.5, clock=lambda: next(ticks))


def ask() -> ScrapeRequest:
    return ScrapeRequest(Encoder(TEXT_0_0_4, timestamps=True))


def families(exporter: Exporter) -> dict[str, Metric]:
    body = exporter.scrape(ask()).body.decode()
    return {family.name: family for family in text_string_to_metric_families(body)}


def by_collector(family: Metric) -> dict[str, float]:
    return {sample.labels["collector"]: sample.value for sample in family.samples}


def test_a_scrape_holds_the_points_of_all_collectors_at_one_time(log: Log) -> None:
    (sample,) = families(exporter(log, {"good": Good()}))["good_thing"].samples
    assert (sample.value, sample.timestamp) == (7, 1.5)


def test_a_scrape_tells_its_format(log: Log) -> None:
    assert exporter(log, {}).scrape(ask()).content_type == TEXT_0_0_4.content_type


def test_each_collector_tells_its_success_and_how_long_it_took(log: Log) -> None:
    told = families(exporter(log, {"good": Good(), "bad": Bad(OSError("broken"))}))
    assert by_collector(told["stator_collector_success"]) == {"good": 1, "bad": 0}
    assert by_collector(told["stator_collector_duration_seconds"]) == {"good": 0.25, "bad": 0.25}


def test_the_build_tells_its_versions(log: Log) -> None:
    (sample,) = families(exporter(log, {}))["stator_build_info"].samples
    assert (sample.value, sample.labels) == (1, {"version": "1.2", "python": "3.11.7"})


@pytest.mark.parametrize(
    "bad",
    [Bad(OSError("broken")), Bad(SystemExit(3)), Bad(KeyboardInterrupt()), Rotten(), *map(Gives, RUBBISH)],
    ids=str,
)
def test_a_collector_that_fails_leaves_the_rest_in_place(log: Log, bad: Collector) -> None:
    told = families(exporter(log, {"bad": bad, "good": Good()}))
    assert set(told) == {
        "good_thing",
        "stator_collector_success",
        "stator_collector_duration_seconds",
        "stator_build_info",
    }
    assert by_collector(told["stator_collector_success"]) == {"bad": 0, "good": 1}


def test_a_failure_is_told_in_the_log_with_collector_and_reason(log: Log, told: ReadLog) -> None:
    exporter(log, {"good": Good(), "bad": Bad(OSError(2, os.strerror(2), "/missing"))}).scrape(ask())
    (line,) = told()
    assert (line["level"], line["msg"], line["collector"]) == ("error", "failed to collect", "bad")
    assert line["error"]["type"] == "FileNotFoundError"
    assert line["error"]["message"] == "[Errno 2] No such file or directory: '/missing'"
    assert "test_exporter.py" in line["error"]["traceback"]


def test_a_collector_that_recovers_is_served_again(log: Log) -> None:
    class Moody:
        def __init__(self) -> None:
            moods: list[Collector] = [Bad(OSError("not now")), Good()]
            self.mood = iter(moods)

        def collect(self, now: float) -> PointsAt:
            return next(self.mood).collect(now)

    moody = exporter(log, {"moody": Moody()})
    assert "good_thing" not in families(moody)
    assert "good_thing" in families(moody)


def test_a_bad_point_is_told_by_its_name_and_without_a_traceback(log: Log, told: ReadLog) -> None:
    bad = Gives(PointsAt("odd", 1.5, points=[point(value="much", labels=(("key", "x"),))]))
    exporter(log, {"bad": bad, "good": Good()}).scrape(ask())
    (line,) = told()
    assert (line["msg"], line["collector"]) == ("failed to collect", "bad")
    assert "odd_thing" in line["reason"]
    assert "error" not in line


def test_what_is_no_points_at_is_told_as_such(log: Log, told: ReadLog) -> None:
    exporter(log, {"bad": Gives(None)}).scrape(ask())
    assert told()[0]["error"]["message"] == "collect() gave None, which is no PointsAt"


def test_of_two_collectors_that_give_the_same_series_one_fails(log: Log) -> None:
    told = families(exporter(log, {"first": Good(), "second": Good()}))
    assert by_collector(told["stator_collector_success"]) == {"first": 1, "second": 0}
    assert len(told["good_thing"].samples) == 1


def test_a_scrape_of_some_collectors_asks_only_those(log: Log, told: ReadLog) -> None:
    some = evolve(ask(), only=frozenset({"good"}))
    body = exporter(log, {"good": Good(), "bad": Bad(OSError("broken"))}).scrape(some).body
    assert b"good_thing 7" in body
    assert b'"bad"' not in body
    assert told() == []
