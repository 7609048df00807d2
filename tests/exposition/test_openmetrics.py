"""Rules of OpenMetrics that the text format does not have."""

import pytest

from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4
from stator.points import Histogram, MetricType, Point, PointsAt, Value
from tests.exposition.exposing import exposed


def whole(*points: Point) -> PointsAt:
    return PointsAt("", 0.0, points=points)


@pytest.mark.parametrize("type_", ["counter", "info"])
@pytest.mark.parametrize(
    ("name", "format_"), [("jobs", OPENMETRICS), ("jobs", OPENMETRICS_UTF8), ("jobs.done", OPENMETRICS_UTF8)]
)
def test_a_counter_or_info_without_its_suffix_becomes_unknown(type_: MetricType, name: str, format_: Format) -> None:
    lines = exposed(whole(Point(name, "d", 1, type=type_)), format_=format_).splitlines()
    assert lines[1].endswith(" unknown")
    assert lines[2] in {f"{name} 1", f'{{"{name}"}} 1'}


@pytest.mark.parametrize(("name", "type_"), [("jobs_total", "counter"), ("jobs_info", "info")])
def test_a_counter_or_info_with_its_suffix_keeps_its_type(name: str, type_: MetricType) -> None:
    lines = exposed(whole(Point(name, "d", 1, type=type_)), format_=OPENMETRICS).splitlines()
    assert lines[1:3] == [f"# TYPE jobs {type_}", f"{name} 1"]


def test_a_whole_name_has_a_unit_line_only_if_it_ends_in_the_unit() -> None:
    text = exposed(whole(Point("cpu_seconds_total", "d", 1, type="counter", unit="seconds")), format_=OPENMETRICS)
    assert "# UNIT cpu_seconds seconds" in text.splitlines()
    assert "# UNIT" not in exposed(whole(Point("cpu", "d", 1, unit="seconds")), format_=OPENMETRICS)


@pytest.mark.parametrize("name", ["jobs", "jobs.done"])
@pytest.mark.parametrize(
    ("type_", "value"), [("counter", 1), ("histogram", Histogram((), 1, 1))], ids=["counter", "histogram"]
)
def test_a_family_of_creation_times_is_left_out_in_openmetrics(name: str, type_: MetricType, value: Value) -> None:
    points = whole(Point(name, "d", value, type=type_), Point(f"{name}_created", "d", 1.5e9))
    assert "_created" not in exposed(points, format_=OPENMETRICS_UTF8)
    assert "_created 1500000000.0" in exposed(points, format_=TEXT_0_0_4)


def test_a_created_family_beside_a_gauge_is_exposed() -> None:
    points = whole(Point("jobs", "d", 1), Point("jobs_created", "d", 2))
    assert "jobs_created 2" in exposed(points, format_=OPENMETRICS).splitlines()
