"""Exemplars stand beside counters and buckets in OpenMetrics, and nowhere else."""

from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8
from stator.points import Exemplar, Histogram, MetricType, Point, PointError, PointsAt, Value
from tests.exposition.exposing import exposed, written

ONE = Exemplar({"trace_id": "4bf92f35"}, 0.3, 1700000000.125)
TWO = Exemplar((("trace_id", 'a "b"'), ("span_id", "ü\n")), 7)
TIMES = Histogram(((0.1, 1), ("0.5", 2), (5, 2)), 8.0, 3)


def points(*exemplars: Any, type_: MetricType = "histogram", common: str = "shop") -> PointsAt:
    value: Value = TIMES if type_ == "histogram" else 3
    plain = Point("plain", "Has none", 1, labels=(("a", "b"),))
    own = Point("times", "Durations", value, type_, labels=(("path", "/"),), exemplars=exemplars)
    other = Point("times", "Durations", value, type_, labels=(("path", "/other"),))
    return PointsAt(common, 1.5, points=[plain, other, own, Point("last", "", 2)])


def lines(*given: Any, **how: Any) -> list[str]:
    text = exposed(points(*given, **how), format_=OPENMETRICS)
    list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call] # the reader accepts it
    return [line for line in text.splitlines() if " # " in line]


def read(text: str) -> dict[tuple[str, str], Exemplar]:
    """The exemplar of each sample that has one, by the name and the bound."""
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # it has no types
    return {
        (each.name, each.labels.get("le", "")): Exemplar(
            each.exemplar.labels, each.exemplar.value, float(each.exemplar.timestamp or 0)
        )
        for family in families
        for each in family.samples
        if each.exemplar
    }


def test_each_stands_at_the_bucket_that_its_value_falls_into() -> None:
    assert lines(ONE, TWO) == [
        'shop_times_bucket{path="/",le="0.5"} 2 # {trace_id="4bf92f35"} 0.3 1700000000.125',
        'shop_times_bucket{path="/",le="+Inf"} 3 # {trace_id="a \\"b\\"",span_id="ü\\n"} 7',
    ]


def test_a_value_at_a_bound_falls_into_its_bucket() -> None:
    (line,) = lines(Exemplar({}, 0.1))
    assert line == 'shop_times_bucket{path="/",le="0.1"} 1 # {} 0.1'


def test_of_several_at_one_place_the_last_is_exposed() -> None:
    (line,) = lines(ONE, Exemplar({"trace_id": "newer"}, 0.4))
    assert '# {trace_id="newer"} 0.4' in line


def test_a_reader_has_what_was_given() -> None:
    assert read(exposed(points(ONE), format_=OPENMETRICS)) == {("shop_times_bucket", "0.5"): ONE}
    assert read(exposed(points(ONE, type_="counter"), format_=OPENMETRICS)) == {("shop_times_total", ""): ONE}


def test_they_stand_after_the_time_of_the_sample() -> None:
    text = exposed(points(ONE, type_="counter"), format_=OPENMETRICS, timestamps=True)
    assert 'shop_times_total{path="/"} 3 1.5 # {trace_id="4bf92f35"} 0.3 1700000000.125' in text.splitlines()


@pytest.mark.parametrize("format_", [TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8])
def test_the_text_formats_have_none(format_: Format) -> None:
    assert exposed(points(ONE), format_=format_) == exposed(points(), format_=format_)


def test_a_counter_without_total_has_none_since_openmetrics_knows_no_such_counter() -> None:
    text = exposed(points(ONE, type_="counter", common=""), format_=OPENMETRICS)
    assert 'times{path="/"} 3' in text.splitlines()


def test_other_types_have_none() -> None:
    with pytest.raises(PointError, match=r'shop_times{path="/"}: only a counter or a histogram has exemplars, not a g'):
        exposed(points(ONE, type_="gauge"), format_=OPENMETRICS)


def test_they_are_new_at_each_scrape_and_in_a_family_of_several_sources() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    for each in (ONE, TWO, ONE):
        assert written(encoder, points(each)) == exposed(points(each), format_=OPENMETRICS)
    assert " # " not in written(encoder, points())
    other = PointsAt("shop", 1.5, points=[Point("times", "Durations", TIMES, "histogram", exemplars=(TWO,))])
    assert len(read(written(encoder, points(ONE), other))) == 2


def test_names_of_labels_are_written_as_those_of_points_are() -> None:
    given = points(Exemplar({"trace.id": "x"}, 1), type_="counter")
    assert '# {trace_id="x"} 1' in exposed(given, format_=OPENMETRICS)
    assert '# {"trace.id"="x"} 1' in exposed(given, format_=OPENMETRICS_UTF8)
    with pytest.raises(PointError, match="a label appears twice in the exemplar"):
        exposed(points(Exemplar({"a.b": "", "a-b": ""}, 1), type_="counter"), format_=OPENMETRICS)


@pytest.mark.parametrize("exemplars", [(None,), ("x",), ({"trace_id": "x"},), (ONE, 1)])
def test_what_is_no_exemplar_is_refused(exemplars: Any) -> None:
    with pytest.raises(PointError, match=r'shop_times{path="/"}: its exemplars must be a tuple of Exemplars, not '):
        exposed(points(*exemplars), format_=OPENMETRICS)


@pytest.mark.parametrize(
    "labels",
    [None, 1, "x", {"a": 1}, {"": "x"}, {"__name__": "x"}, {"a": "\ud800"}, (("a",),), (("a", "1"), ("a", "2"))],
)
def test_labels_that_can_not_be_written_are_refused(labels: Any) -> None:
    with pytest.raises(PointError, match="an exemplar can't have the labels"):
        Exemplar(labels, 1)


def test_labels_have_128_characters_at_most() -> None:
    Exemplar({"trace_id": "ü" * 120}, 1)
    with pytest.raises(PointError, match="an exemplar's labels have more than 128 characters"):
        Exemplar({"trace_id": "ü" * 121}, 1)


@pytest.mark.parametrize(
    ("value", "stamp"),
    [("1", None), (None, None), (float("nan"), None), (10**5000, None), (1, "now"), (1, float("inf")), (1, 10**400)],
    ids=lambda _: "",
)
def test_values_and_times_that_are_none_are_refused(value: Any, stamp: Any) -> None:
    with pytest.raises(PointError, match="an exemplar's"):
        Exemplar({}, value, stamp)
