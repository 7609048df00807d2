"""The Prometheus text format 0.0.4."""

import math
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stator.exposition.text import TEXT_0_0_4
from stator.points import Histogram, Labels, MetricType, Point, PointError, PointsAt, Summary, family_name
from tests.exposition import exposing


def exposed(*points: Point, labels: Labels = ()) -> str:
    return exposing.exposed(PointsAt("a", 0.0, labels, points))


def gauge(value: Any, *labels: tuple[Any, Any]) -> Point:
    return Point("b", "", value, labels=labels)


def sample(value: Any) -> str:
    """The text of a value in a sample."""
    return exposed(gauge(value)).splitlines()[-1].removeprefix("a_b ")


def test_a_whole_exposition_looks_like_this() -> None:
    points = [
        Point("temperature", "How warm \\ cold\nit is", 21.5, unit="celsius", labels=(("room", 'the "big" one'),)),
        Point("requests", "Requests so far", 1027, type="counter", labels=(("method", "post"),)),
        Point("temperature", "ignored: the first one is written", -0.5, unit="celsius", labels=(("room", "C:\\\nü"),)),
        Point("read_total", "Bytes read", 3, type="counter"),
        Point("wait", "Time spent waiting", Histogram(((0.1, 2), (1, 5)), 3.25, 7), type="histogram", unit="seconds"),
        Point("size", "Size of answers", Summary(((0.5, 100), (0.99, math.nan)), 1e3, 9), type="summary", unit="bytes"),
        Point("info", "What it is", 1, type="info", labels=(("version", "1.2"),)),
        Point("odd", "Who knows", math.inf, type="unknown"),
    ]
    body = exposing.exposed(PointsAt("x", 1795449820.4364, (("host", "h"),), points), timestamps=True)
    assert (
        body
        == """
# HELP x_temperature_celsius How warm \\\\ cold\\nit is
# TYPE x_temperature_celsius gauge
x_temperature_celsius{host="h",room="the \\"big\\" one"} 21.5 1795449820436
x_temperature_celsius{host="h",room="C:\\\\\\nü"} -0.5 1795449820436

# HELP x_requests_total Requests so far
# TYPE x_requests_total counter
x_requests_total{host="h",method="post"} 1027 1795449820436

# HELP x_read_total Bytes read
# TYPE x_read_total counter
x_read_total{host="h"} 3 1795449820436

# HELP x_wait_seconds Time spent waiting
# TYPE x_wait_seconds histogram
x_wait_seconds_bucket{host="h",le="0.1"} 2 1795449820436
x_wait_seconds_bucket{host="h",le="1.0"} 5 1795449820436
x_wait_seconds_bucket{host="h",le="+Inf"} 7 1795449820436
x_wait_seconds_sum{host="h"} 3.25 1795449820436
x_wait_seconds_count{host="h"} 7 1795449820436

# HELP x_size_bytes Size of answers
# TYPE x_size_bytes summary
x_size_bytes{host="h",quantile="0.5"} 100 1795449820436
x_size_bytes{host="h",quantile="0.99"} NaN 1795449820436
x_size_bytes_sum{host="h"} 1000.0 1795449820436
x_size_bytes_count{host="h"} 9 1795449820436

# HELP x_info What it is
# TYPE x_info gauge
x_info{host="h",version="1.2"} 1 1795449820436

# HELP x_odd Who knows
# TYPE x_odd untyped
x_odd{host="h"} +Inf 1795449820436
"""
    )


def test_the_content_type_names_format_version_and_charset() -> None:
    assert TEXT_0_0_4.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_no_points_make_no_text() -> None:
    assert exposed() == ""


def test_without_timestamps_a_sample_ends_with_its_value() -> None:
    assert exposed(gauge(1)) == "\n# HELP a_b \n# TYPE a_b gauge\na_b 1\n"


def test_a_time_before_1970_is_rounded_to_milliseconds() -> None:
    text = exposing.exposed(PointsAt("a", -1.0006, points=[gauge(1)]), timestamps=True)
    assert text.splitlines()[-1] == "a_b 1 -1001"


@pytest.mark.parametrize("type_", ["counter", "gauge", "info", "unknown"])
def test_interleaved_points_of_a_family_share_one_header(type_: MetricType) -> None:
    points = [Point(name, "d", 1, type=type_, labels=(("nth", str(nth)),)) for nth in range(3) for name in ("b", "c")]
    families = list(text_string_to_metric_families(exposed(*points)))
    assert [len(family.samples) for family in families] == [3, 3]
    assert exposed(*points).count("# TYPE") == exposed(*points).count("# HELP") == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e100, "1e+100"),
        (5e-324, "5e-324"),
        (-0.0, "-0.0"),
        (2**53 + 1, "9007199254740993"),
        (math.nan, "NaN"),
        (-math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_a_number_is_the_shortest_text_that_reads_back_the_same(value: float, text: str) -> None:
    assert sample(value) == text


class Level(IntEnum):
    """An integer with a name."""

    HIGH = 3


class Celsius(float):
    """A number whose repr is not plain, like that of some libraries."""

    def __repr__(self) -> str:
        return f"Celsius({super().__repr__()})"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"),
        (False, "0"),
        (Level.HIGH, "3"),
        (Celsius(1.5), "1.5"),
        (Decimal("1.25"), "1.25"),
        (Decimal("NaN"), "NaN"),
        (Fraction(1, 4), "0.25"),
    ],
)
def test_numbers_of_any_type_are_written_plainly(value: object, text: str) -> None:
    assert sample(value) == text


@pytest.mark.parametrize("value", ["1", None, [1]])
def test_a_value_that_is_not_a_number_is_refused(value: object) -> None:
    with pytest.raises(PointError, match=r"^a_b: .* is not a number$"):
        exposed(gauge(value))


@pytest.mark.parametrize(
    ("name", "written"), [("my-app", "my_app"), ("9lives", "_lives"), ("ü", "_"), ("a b\n", "a_b_")]
)
def test_a_name_beyond_the_legacy_characters_is_written_with_underscores(name: str, written: str) -> None:
    assert exposing.exposed(PointsAt(name, 0.0, points=[gauge(1)])).splitlines()[-1] == f"{written}_b 1"
    assert exposed(gauge(1, (name, "x"))).splitlines()[-1] == f'a_b{{{written}="x"}} 1'


@pytest.mark.parametrize("name", ["", "__name__", "__mine"])
def test_an_empty_or_reserved_label_name_is_refused(name: str) -> None:
    with pytest.raises(PointError, match="can't be a label's name here"):
        exposed(gauge(1, (name, "x")))


def test_a_label_that_appears_twice_is_refused() -> None:
    with pytest.raises(PointError, match="a label appears twice"):
        exposed(gauge(1, ("path", "/")), labels=(("path", "/"),))


def test_a_text_that_utf_8_can_not_encode_is_refused() -> None:
    with pytest.raises(PointError, match="texts in UTF-8"):
        exposed(gauge(1, ("path", "k\udce4fer")))


def test_a_bucket_for_infinity_is_written_once() -> None:
    histogram = Histogram(((1.0, 2), (math.inf, 3)), 4.0, 3)
    assert exposed(Point("b", "d", histogram, type="histogram")).count('le="+Inf"') == 1


def test_a_familys_name_is_made_of_its_parts() -> None:
    assert family_name("du", "size", "bytes") == "du_size_bytes"
    assert family_name("wave", "sine", "") == "wave_sine"
    assert family_name("", "node_load1", "seconds") == "node_load1"


@pytest.mark.parametrize("type_", ["counter", "info", "gauge", "unknown"])
@pytest.mark.parametrize("name", ["jobs", "jobs_total", "jobs_info", "total"])
def test_a_name_without_a_common_name_is_exposed_as_it_is(name: str, type_: MetricType) -> None:
    text = exposing.exposed(PointsAt("", 0.0, points=[Point(name, "", 1, type=type_, unit="seconds")]))
    written_type = {"info": "gauge", "unknown": "untyped"}.get(type_, type_)
    assert text.splitlines()[-2:] == [f"# TYPE {name} {written_type}", f"{name} 1"]


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (0.0001, "0.0001"),
        (1, "1.0"),
        (100000, "100000.0"),
        (1e6, "1e+06"),
        (2500000, "2.5e+06"),
        (123456789.5, "1.234567895e+08"),
        (1e15, "1e+15"),
        (1e16, "1e+16"),
        (1.5e20, "1.5e+20"),
        (1e-7, "1e-07"),
        (-2500000, "-2.5e+06"),
    ],
)
def test_a_buckets_bound_is_written_as_other_exporters_write_it(bound: float, text: str) -> None:
    body = exposed(Point("b", "", Histogram(((bound, 1),), 1, 1), type="histogram"))
    assert f'a_b_bucket{{le="{text}"}} 1' in body.splitlines()
