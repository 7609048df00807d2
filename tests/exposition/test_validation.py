"""A point that can't be exposed fails its source with a message that names it, and leaves other sources as they are."""

import math
import re
from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stator.exposition.encoder import Encoder
from stator.exposition.escaping import quoted
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4
from stator.points import Histogram, MetricType, Point, PointError, PointsAt, Summary
from tests.exposition.exposing import exposed, written

FINE = PointsAt("fine", 0.0, points=[Point("g", "d", 1, labels=(("a", "x"),))])
FORMATS = pytest.mark.parametrize("format_", [TEXT_0_0_4, OPENMETRICS_UTF8], ids=["text", "openmetrics"])


class State(StrEnum):
    """Texts with names."""

    UP = "up"


class Type(StrEnum):
    """A type with a name."""

    GAUGE = "gauge"


class Unspeakable:
    """A value without a repr."""

    def __repr__(self) -> str:
        raise RuntimeError


class Changing(list[Any]):
    """A list that gets one more item each time it is iterated."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(parts)

    def __iter__(self) -> Iterator[Any]:
        self.append((1 - 0.5 ** len(self), 1))
        return super().__iter__()


def point(type_: Any, value: Any, labels: Any = ()) -> Point:
    return Point("b", "d", value, type=type_, labels=labels)


def histogram(*buckets: tuple[Any, Any], total: Any = 1.0, count: Any = 9) -> Histogram:
    return Histogram(buckets, total, count)


def refusal(*points: Point, labels: Any = (), format_: Format = TEXT_0_0_4) -> str:
    """The message for the points of a source between two others, which are exposed as if it were not there."""
    encoder = Encoder(format_, timestamps=False)
    for _ in range(2):
        exposition = encoder.exposition()
        exposition.add("before", FINE)
        with pytest.raises(PointError) as error:
            exposition.add("bad", PointsAt("a", 0.0, labels, points))
        exposition.add("after", PointsAt("after", 0.0, points=FINE.points))
        assert b"".join(exposition.pieces()).decode() == exposed(
            FINE, PointsAt("after", 0.0, points=FINE.points), format_=format_
        )
    return str(error.value)


BAD: list[tuple[Point, str]] = [
    (point("gauge", "x"), "a_b: 'x' is not a number"),
    (point("gauge", b"1"), "a_b: b'1' is not a number"),
    (point("gauge", 1j), "a_b: 1j is not a number"),
    (point("gauge", Summary((), 1, 1)), "a_b: Summary(quantiles=(), sum=1, count=1) is not a number"),
    (point("gauge", Fraction(10**400)), f"a_b: {Fraction(10**400)!r} is too large for a float"),
    (point("gauge", 10**400), f"a_b: {10**400} is too large for a float"),
    (point("gauge", -(10**309)), f"a_b: {-(10**309)} is too large for a float"),
    (point("counter", 10**309), f"a_b: {10**309} is too large for a float"),
    (point("unknown", None, (("k", "v"),)), 'a_b{k="v"}: None is not a number'),
    (point("counter", -1), "a_b: a counter can't be -1"),
    (point("counter", -math.inf), "a_b: a counter can't be -inf"),
    (point("counter", math.nan), "a_b: a counter can't be nan"),
    (point("counter", Decimal("NaN")), "a_b: a counter can't be Decimal('NaN')"),
    (point("counter", "1"), "a_b: '1' is not a number"),
    (point("info", 2), "a_b: an info must be 1, not 2"),
    (point("ratio", 1), "a_b: 'ratio' is not one of the types counter, gauge, histogram, summary, info, unknown"),
    (point("histogram", 3), "a_b: 3 is not a Histogram"),
    (point("histogram", Summary((), 1, 1)), "a_b: Summary(quantiles=(), sum=1, count=1) is not a Histogram"),
    (point("summary", 3), "a_b: 3 is not a Summary"),
    (point("histogram", histogram((2, 1), (1, 2))), "a_b: its buckets must ascend"),
    (point("histogram", histogram((1, 1), (1, 2))), "a_b: its buckets must ascend"),
    (point("histogram", histogram((2**53, 1), (2**53 + 1, 2))), "a_b: its buckets must ascend"),
    (point("histogram", histogram((math.nan, 1))), "a_b: its buckets must ascend"),
    (point("summary", Summary(((0.9, 1), (0.5, 1)), 1, 1)), "a_b: its quantiles must ascend"),
    (point("summary", Summary(((0.5, 1), (99, 1)), 1, 1)), "a_b: its quantiles must be from 0 to 1"),
    (point("gauge", 1, (("", "x"),)), "a_b{=\"x\"}: '' can't be a label's name here"),
    (point("gauge", 1, (("__name__", "x"),)), "a_b{__name__=\"x\"}: '__name__' can't be a label's name here"),
    (point("histogram", histogram(), (("le", "1"),)), "a_b{le=\"1\"}: 'le' can't be a label's name here"),
    (
        point("summary", Summary((), 1, 1), (("quantile", "1"),)),
        "a_b{quantile=\"1\"}: 'quantile' can't be a label's name here",
    ),
    (point("gauge", 1, (("k", "1"), ("k", "2"))), 'a_b{k="1",k="2"}: a label appears twice'),
]
COUNTS = [
    histogram((1, 2), (2, 1)),
    histogram((1, 10)),
    histogram((math.inf, 10)),
    histogram((1, -1)),
    histogram(count=-1),
    histogram(count=math.nan),
    Summary((), 1, -1),
]
NO_NUMBERS = [
    histogram(("one", 1)),
    histogram(("1_0", 1)),
    histogram((1, "1")),
    histogram(total="1"),
    histogram(count=None),
    histogram((1,)),  # type: ignore[arg-type] # bad
]
NO_TEXTS: list[Any] = [
    (("k", 1),),
    (("k", None),),
    ((1, "x"),),
    (("k", "\ud800"),),
    (("\udc80", "x"),),
    (("k", State.UP),),
]
NO_LABELS: list[Any] = [
    "kv",
    None,
    1,
    [("k", "v")],
    (["k", "v"],),
    (("k",),),
    (("k", "v", "w"),),
    (("k", "v", "l"), ("w",)),
    ("kv",),
]


@FORMATS
@pytest.mark.parametrize(("bad", "message"), BAD)
def test_a_bad_point_is_named_with_the_reason(bad: Point, message: str, format_: Format) -> None:
    assert refusal(bad, format_=format_) == message


@pytest.mark.parametrize("nth", [0, 1, 499, 5000, 9999])
@pytest.mark.parametrize("bad", [point("gauge", "x"), point("gauge", 1, (("__k", ""),)), point("gauge", None)])
def test_a_bad_point_among_many_is_named(nth: int, bad: Point) -> None:
    points = [Point("b", "", 1, labels=(("k", str(each)),)) for each in range(10_000)]
    points[nth] = bad
    assert refusal(*points) == refusal(bad)


@pytest.mark.parametrize("value", COUNTS, ids=str)
def test_counts_that_fall_or_exceed_their_own_are_refused(value: Any) -> None:
    type_ = "histogram" if isinstance(value, Histogram) else "summary"
    why = f"the counts of {value!r} must be zero or more, must not fall, nor exceed its own"
    assert refusal(point(type_, value)) == f"a_b: {why}"


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_a_histogram_of_values_that_are_not_numbers_is_refused(value: Histogram) -> None:
    assert refusal(point("histogram", value)) == f"a_b: not all of {value!r} are numbers"


@pytest.mark.parametrize("labels", NO_TEXTS, ids=ascii)
def test_labels_that_are_not_texts_are_refused(labels: Any) -> None:
    message = refusal(point("gauge", 1, labels))
    assert message == refusal(point("gauge", 1), labels=labels) == refusal(point("gauge", 1, dict(labels)))
    assert re.fullmatch("a_b{.+}: its name, description and labels must be texts in UTF-8, each a str", message)


@pytest.mark.parametrize("labels", NO_LABELS, ids=str)
def test_labels_that_are_neither_a_mapping_nor_a_tuple_of_pairs_are_refused(labels: Any) -> None:
    why = f"its labels must be a mapping or a tuple of pairs, ((name, value), ...), not {labels!r}"
    assert refusal(point("gauge", 1, labels)).endswith(why)
    assert refusal(point("gauge", 1), labels=labels).endswith(why)


def test_labels_that_are_pairs_only_on_average_are_refused() -> None:
    uneven: Any = (("k", "v", "l"), ("w",))
    message = refusal(point("gauge", 1, (("k", "1"), ("l", "2"))), point("gauge", 1, uneven))
    assert message == f"a_b: its labels must be a mapping or a tuple of pairs, ((name, value), ...), not {uneven!r}"


@pytest.mark.parametrize("name", ["", "__name__", "..name..", "le"])
def test_a_bad_common_label_is_refused(name: str) -> None:
    assert f"{name!r} can't be a label's name here" in refusal(point("histogram", histogram()), labels=((name, "x"),))


@pytest.mark.parametrize("what", ["name", "desc", "unit"])
def test_a_name_or_description_that_is_not_a_text_is_refused(what: str) -> None:
    for text in (None, 1, "\ud800"):
        parts: dict[str, Any] = {"name": "b", "desc": "d", "unit": "s", what: text}
        message = refusal(Point(**parts, type="gauge", value=1))
        assert "its name, description and labels must be texts in UTF-8" in message


def test_a_value_that_is_not_a_point_is_refused() -> None:
    thing: Any = ("b", 1)
    assert refusal(thing) == "a: ('b', 1) is not a Point"


@pytest.mark.parametrize("stamp", [None, "now", math.nan, math.inf])
def test_a_value_that_is_not_a_time_is_refused(stamp: Any) -> None:
    for format_ in (TEXT_0_0_4, OPENMETRICS):
        exposition = Encoder(format_, timestamps=True).exposition()
        with pytest.raises(PointError, match=f"a: {stamp!r} is not a time"):
            exposition.add("bad", PointsAt("a", stamp, points=[point("gauge", 1)]))
        assert b"".join(exposition.pieces()) == format_.end


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((("k", "1"), ("l", "2")), (("k", "1"), ("l", "2"))),
        ((("k", "1"), ("l", "2")), (("l", "2"), ("k", "1"))),
        ((("k", '},l="2"'), ("l", "\\")), (("l", "\\"), ("k", '},l="2"'))),
        ((), ()),
        ((), (("empty", ""),)),
        ((("empty", ""), ("k", "1")), (("k", "1"),)),
    ],
)
@pytest.mark.parametrize("type_", ["gauge", "counter", "histogram"])
def test_the_same_name_and_labels_twice_are_refused(first: Any, second: Any, type_: MetricType) -> None:
    value = histogram((-1, 1)) if type_ == "histogram" else 1
    labels = ",".join(f"{name}={quoted(value)}" for name, value in second)
    message = refusal(point(type_, value, first), point(type_, value, second))
    assert message == (f"a_b{{{labels}}} appears twice" if labels else "a_b appears twice")
    for format_ in (TEXT_0_0_4, OPENMETRICS_UTF8):
        exposition = Encoder(format_, timestamps=False).exposition()
        exposition.add("good", PointsAt("a", 0.0, points=[point(type_, value, first)]))
        with pytest.raises(PointError, match=r"^a_b.* appears twice$"):
            exposition.add("bad", PointsAt("a", 0.0, points=[point(type_, value, second)]))


def test_names_that_escaping_makes_equal_are_refused_only_in_formats_that_escape() -> None:
    labels = (("k.l", "1"), ("k-l", "1"))
    assert refusal(point("gauge", 1, labels)) == 'a_b{k.l="1",k-l="1"}: a label appears twice'
    two = [point("gauge", 1, (label,)) for label in labels]
    assert refusal(*two) == 'a_b{k-l="1"} appears twice'
    three = [Point(name, "", 1) for name in ("b.c", "b-c")]
    assert refusal(*three) == "a_b-c appears twice"
    assert exposed(PointsAt("a", 0.0, points=[point("gauge", 1, labels), *three]), format_=OPENMETRICS_UTF8)


def test_a_type_that_differs_from_the_familys_is_refused() -> None:
    message = 'a_b{k="v"}: its type counter is not that of its family, gauge'
    assert refusal(point("gauge", 1), point("counter", 1, (("k", "v"),))) == message
    encoder = Encoder(TEXT_0_0_4, timestamps=False)
    with pytest.raises(PointError, match=r"^a_b: its type gauge is not that of its family, unknown$"):
        written(encoder, *(PointsAt("a", 0.0, points=[point(type_, 1)]) for type_ in ("unknown", "gauge")))


@pytest.mark.parametrize("name", ["b_count", "b_sum", "b_bucket"])
def test_a_name_that_a_histogram_takes_is_refused(name: str) -> None:
    gauge, taker = Point(name, "", 1), point("histogram", histogram())
    assert refusal(gauge, taker) == f"a_b: the name a_{name} is taken by samples of the family a_{name}"
    assert refusal(taker, gauge) == f"a_{name}: the name a_{name} is taken by samples of the family a_b"
    for sources in ([gauge], [taker]), ([taker], [gauge]):
        with pytest.raises(PointError, match=f"the name a_{name} is taken by samples of the family"):
            exposed(*(PointsAt("a", 0.0, points=points) for points in sources))


def test_a_point_that_turns_bad_is_refused_until_it_is_good_again() -> None:
    encoder = Encoder(TEXT_0_0_4, timestamps=False)
    good = PointsAt("a", 0.0, points=[point("histogram", histogram((1, 2)))])
    text = written(encoder, good)
    for value in (3, None, Summary(((1, 1),), 1, 1), histogram((1, 10)), histogram((2, 1), (1, 1))):
        with pytest.raises(PointError, match=r"^a_b: "):
            written(encoder, PointsAt("a", 0.0, points=[point("histogram", value)]))
        assert written(encoder, good) == text


def test_points_of_one_family_from_several_sources_come_under_one_header() -> None:
    sources = [
        PointsAt("a", 0.0, (("source", name),), [point("gauge", nth), Point("z", "", 1, type="counter")])
        for nth, name in enumerate("xyz")
    ]
    text = exposed(*sources, format_=OPENMETRICS)
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call] # its untyped part
    assert [(each.name, len(each.samples)) for each in families] == [("a_b", 3), ("a_z", 3)]
    assert text.count("# HELP") == text.count("# TYPE") == 2


@FORMATS
def test_a_family_without_a_name_is_refused(format_: Format) -> None:
    for bad in (Point("", "d", 1), Point("_total", "d", 1, type="counter")):
        with pytest.raises(PointError, match="its family has no name"):
            exposed(PointsAt("", 0.0, points=[bad]), format_=format_)


def test_a_type_that_is_an_enums_member_is_refused() -> None:
    assert "is not one of the types" in refusal(point(Type.GAUGE, 1))


def test_labels_whose_names_are_right_only_on_average_are_refused() -> None:
    twice = (("k", "1"), ("k", "2"))
    message = refusal(point("gauge", 0, (("k", "0"),)), point("gauge", 1, twice), point("gauge", 2))
    assert message == 'a_b{k="1",k="2"}: a label appears twice'


@pytest.mark.parametrize("type_", ["histogram", "summary"])
def test_buckets_that_change_while_they_are_read_fail_their_source_alone(type_: str) -> None:
    value = {"histogram": Histogram, "summary": Summary}[type_](Changing((0.1, 1), (0.2, 1)), 1.0, 2)  # type: ignore[arg-type] # no tuple
    assert refusal(point(type_, value)) == "a_b: its family can't be written"


def test_labels_that_can_not_be_compared_need_a_new_template_only() -> None:
    class Evil(tuple):  # type: ignore[type-arg] # it must be a tuple of anything
        def __eq__(self, _other: object) -> bool:
            raise RuntimeError

        __hash__ = tuple.__hash__

    encoder = Encoder(TEXT_0_0_4, timestamps=False)
    for labels in ((("k", "1"),), Evil((("k", "1"),)), (("k", "2"),), (("k", "3"),)):
        assert f'k="{labels[0][1]}"' in written(encoder, PointsAt("a", 0.0, points=[point("gauge", 1, labels)]))


@pytest.mark.parametrize(
    ("value", "named"),
    [(10**5000, "int is too large for a float"), (Unspeakable(), "Unspeakable is not a number")],
    ids=["a long integer", "without a repr"],
)
def test_a_value_without_a_repr_is_named_by_its_type(value: Any, named: str) -> None:
    assert refusal(point("gauge", value)) == f"a_b: a value of the type {named}"


@pytest.mark.parametrize(
    "point",
    [
        point("histogram", histogram((1, 1), total=10**400)),
        point("histogram", histogram((1, 10**400), count=10**401)),
        point("histogram", histogram((10**400, 1))),
        point("summary", Summary(((0.5, 10**400),), 1, 1)),
    ],
)
def test_a_distribution_with_a_number_too_large_for_a_float_is_refused(point: Point) -> None:
    assert refusal(point) == f"a_b: not all of {point.value} fit into a float"


@pytest.mark.parametrize("stamp", [10**400, 1.7e308, float("nan"), "now"])
def test_a_time_that_can_not_be_written_is_refused(stamp: Any) -> None:
    with pytest.raises(PointError, match=r"^a: .* is not a time$"):
        exposed(PointsAt("a", stamp, points=[point("gauge", 1)]), timestamps=True)
