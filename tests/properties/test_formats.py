"""Whatever points collectors collect, a reader of each format reads the same."""

import math
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.samples import Sample

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0_UTF8
from stator.points import Histogram, Labels, MetricType, Point, PointError, PointsAt, Summary, Value
from tests.exposition.exposing import exposed, written

Reader = Callable[[str], Iterable[Metric]]
# Each format, and prometheus_client's reader of it.
FORMATS: dict[str, tuple[Format, Reader]] = {
    "text": (TEXT_0_0_4, read_text),
    "text with UTF-8 names": (TEXT_1_0_0_UTF8, read_text),
    "OpenMetrics": (OPENMETRICS, read_openmetrics),
    "OpenMetrics with UTF-8 names": (OPENMETRICS_UTF8, read_openmetrics),
}
EVERY_FORMAT = pytest.mark.parametrize(("format_", "reader"), FORMATS.values(), ids=FORMATS)
EVERY_UTF8_FORMAT = pytest.mark.parametrize(
    ("format_", "reader"), [each for each in FORMATS.values() if each[0].utf8], ids=["text", "OpenMetrics"]
)

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True)
# Prometheus reserves names that begin with two underscores; histograms and summaries have labels of their own.
LABEL_NAMES = NAMES.filter(lambda name: not name.startswith("__") and name not in ("le", "quantile"))
TEXTS = st.text()
UTF8_NAMES = st.text(min_size=1)
NUMBERS = st.floats() | st.integers(min_value=-(10**300), max_value=10**300)
COUNTS = st.integers(min_value=0, max_value=2**63)
NOT_NEGATIVE = st.floats(min_value=0).map(abs) | COUNTS
STAMPS = st.integers(min_value=0, max_value=2**40)
VALUES: dict[MetricType, st.SearchStrategy[Value]] = {
    "gauge": NUMBERS,
    "unknown": NUMBERS,
    "counter": NOT_NEGATIVE,
    "info": st.just(1),
}
SUFFIXES: dict[MetricType, str] = {"counter": "_total", "info": "_info"}


@st.composite
def histograms(draw: st.DrawFn, bounds: st.SearchStrategy[float], sums: st.SearchStrategy[float]) -> Histogram:
    ascending = sorted(draw(st.sets(bounds, max_size=5)))
    *counts, count = accumulate(draw(COUNTS) for _ in range(len(ascending) + 1))
    return Histogram(tuple(zip(ascending, counts, strict=True)), draw(sums), count)


@st.composite
def summaries(draw: st.DrawFn, values: st.SearchStrategy[float], sums: st.SearchStrategy[float]) -> Summary:
    quantiles = sorted(draw(st.sets(st.floats(min_value=0, max_value=1).map(abs), max_size=5)))
    return Summary(tuple((quantile, draw(values)) for quantile in quantiles), draw(sums), draw(COUNTS))


@st.composite
def label_sets(draw: st.DrawFn, label_names: st.SearchStrategy[str] = LABEL_NAMES) -> tuple[Labels, list[Labels]]:
    """Common labels, and different labels for each of some points."""
    names = draw(st.lists(label_names, unique=True, min_size=1, max_size=4))
    common = draw(st.integers(min_value=0, max_value=len(names) - 1))
    values = st.tuples(*(TEXTS for _ in names[common:]))
    own = draw(st.lists(values, unique=True, min_size=1, max_size=3))
    shared = tuple((name, draw(TEXTS)) for name in names[:common])
    return shared, [tuple(zip(names[common:], each, strict=True)) for each in own]


def bits(number: Any) -> Any:
    """A number to compare to the last bit: integers as they are, floats by their bytes, all NaN as one."""
    if isinstance(number, int):
        return number
    return "NaN" if math.isnan(number) else struct.pack("d", number)


def contents(sample: Sample) -> tuple[str, dict[str, str], Any]:
    return sample.name, sample.labels, bits(sample.value)


def only(reader: Reader, text: str) -> Metric:
    (family,) = reader(text)
    return family


@EVERY_FORMAT
@given(labels=label_sets(), data=st.data(), type_=st.sampled_from(sorted(VALUES)), stamp=STAMPS)
def test_numbers_labels_and_times_read_back_the_same(
    format_: Format,
    reader: Reader,
    labels: tuple[Labels, list[Labels]],
    data: st.DataObject,
    type_: MetricType,
    stamp: int,
) -> None:
    shared, own = labels
    points = [Point("b", "d", data.draw(VALUES[type_]), type=type_, unit="bytes", labels=each) for each in own]
    family = only(reader, exposed(PointsAt("a", stamp / 1000, shared, points), format_=format_, timestamps=True))
    name = "a_b_bytes" + SUFFIXES.get(type_, "")
    assert [contents(sample) for sample in family.samples] == [
        (name, dict((*shared, *point.labels)), bits(point.value)) for point in points
    ]
    # The reader of OpenMetrics adds seconds and nanoseconds, so the last bit may be wrong.
    read = [round(float(sample.timestamp), 6) for sample in family.samples]  # type: ignore[arg-type] # it is there
    assert read == [stamp / 1000] * len(points)


# The reader of text strips blanks at both ends.
@EVERY_FORMAT
@given(help_=TEXTS.map(str.strip), common=NAMES, name=NAMES, unit=st.sampled_from(["", "seconds"]))
def test_names_help_and_unit_read_back_the_same(
    format_: Format, reader: Reader, help_: str, common: str, name: str, unit: str
) -> None:
    points_at = PointsAt(common, 0.0, points=[Point(name, help_, 1, unit=unit)])
    family = only(reader, exposed(points_at, format_=format_))
    whole = f"{common}_{name}_{unit}" if unit else f"{common}_{name}"
    assert (family.name, family.documentation, family.type) == (whole, help_, "gauge")
    assert family.unit == (unit if reader is read_openmetrics else "")


@EVERY_UTF8_FORMAT
@given(common=UTF8_NAMES, name=UTF8_NAMES, labels=label_sets(UTF8_NAMES.filter(lambda key: not key.startswith("__"))))
def test_names_beyond_the_legacy_characters_read_back_the_same(
    format_: Format, reader: Reader, common: str, name: str, labels: tuple[Labels, list[Labels]]
) -> None:
    shared, own = labels
    points = [Point(name, "d", 1.5, labels=each) for each in own]
    family = only(reader, exposed(PointsAt(common, 0.0, shared, points), format_=format_))
    assert family.name == f"{common}_{name}"
    assert [contents(sample) for sample in family.samples] == [
        (family.name, dict((*shared, *each)), bits(1.5)) for each in own
    ]


@EVERY_FORMAT
@given(data=st.data())
def test_a_histogram_reads_back_the_same(format_: Format, reader: Reader, data: st.DataObject) -> None:
    # OpenMetrics has no negative sums, and no sum beside negative bounds.
    bounds, sums = (
        (st.floats(min_value=0).map(abs), NOT_NEGATIVE)
        if reader is read_openmetrics
        else (st.floats(allow_nan=False), NUMBERS)
    )
    value = data.draw(histograms(bounds, sums))
    points_at = PointsAt("a", 0.0, points=[Point("b", "d", value, type="histogram")])
    family = only(reader, exposed(points_at, format_=format_))
    buckets = {float(sample.labels["le"]): sample.value for sample in family.samples if "le" in sample.labels}
    # prometheus_client reads integers as integers, so all bits are compared.
    assert family.type == "histogram"
    assert buckets == {**dict(value.buckets), math.inf: value.count}
    assert {sample.name: bits(sample.value) for sample in family.samples if "le" not in sample.labels} == {
        "a_b_sum": bits(value.sum),
        "a_b_count": value.count,
    }


@given(histograms(st.floats(max_value=0, exclude_max=True, allow_nan=False), NUMBERS).filter(lambda each: each.buckets))
def test_a_histogram_with_bounds_below_zero_has_neither_sum_nor_count_in_openmetrics(value: Histogram) -> None:
    points_at = PointsAt("a", 0.0, points=[Point("b", "d", value, type="histogram")])
    family = only(read_openmetrics, exposed(points_at, format_=OPENMETRICS))
    assert [(sample.name, float(sample.labels["le"]), sample.value) for sample in family.samples] == [
        ("a_b_bucket", bound, count) for bound, count in (*value.buckets, (math.inf, value.count))
    ]


@EVERY_FORMAT
@given(data=st.data())
def test_a_summary_reads_back_the_same(format_: Format, reader: Reader, data: st.DataObject) -> None:
    # OpenMetrics has no negative values in summaries.
    own, sums = (NOT_NEGATIVE | st.just(math.nan), NOT_NEGATIVE) if reader is read_openmetrics else (NUMBERS, NUMBERS)
    value = data.draw(summaries(own, sums))
    points_at = PointsAt("a", 0.0, points=[Point("b", "d", value, type="summary")])
    family = only(reader, exposed(points_at, format_=format_))
    samples = {sample.labels.get("quantile", sample.name): bits(sample.value) for sample in family.samples}
    assert family.type == "summary"
    assert samples.pop("a_b_sum") == bits(value.sum)
    assert samples.pop("a_b_count") == value.count
    assert {float(quantile): at for quantile, at in samples.items()} == {
        quantile: bits(at) for quantile, at in value.quantiles
    }


FEW = st.sampled_from(["b", "c", "b-c", "b_count", "b_total", "%s"])
BUCKETS: list[tuple[tuple[float, int], ...]] = [(), ((1, 1), (2, 2)), ((-1, 1),)]
LABELS = st.lists(st.tuples(st.sampled_from(["k", "l", "k.", "le", ""]), st.sampled_from(["", "%", "v\n"])), max_size=2)
POINTS = st.builds(
    Point,
    name=FEW,
    desc=st.sampled_from(["", "d"]),
    value=st.sampled_from([0, 1, 1.5, -1, math.nan, None, "1", *(Histogram(each, 3.0, 2) for each in BUCKETS)]),
    type=st.sampled_from(["gauge", "gauge", "counter", "info", "histogram"]),
    unit=st.sampled_from(["", "seconds"]),
    labels=LABELS.map(tuple) | LABELS.map(dict),
)
SOURCES = st.lists(
    st.builds(PointsAt, st.just("a"), st.just(0.0), points=st.lists(POINTS, max_size=4)), min_size=1, max_size=3
)


@EVERY_FORMAT
@given(expositions=st.lists(SOURCES, min_size=2, max_size=4), again=st.booleans())
def test_earlier_expositions_do_not_change_a_later_one_and_a_reader_reads_each(
    format_: Format, reader: Reader, expositions: list[list[PointsAt]], again: bool
) -> None:
    kept = Encoder(format_, timestamps=False)
    for sources in expositions * (1 + again):
        text = as_far_as_good(kept, sources)
        assert text == as_far_as_good(Encoder(format_, timestamps=False), sources)
        with suppress(ReaderError):
            read(reader, text)


class ReaderError(Exception):
    """A reader is stricter than the format."""


def read(reader: Reader, text: str) -> None:
    try:
        list(reader(text))
    except ValueError as error:
        # It refuses a name that another family's samples could have, even if none of them has it.
        if "Clashing name" in str(error):
            raise ReaderError from error
        raise


def as_far_as_good(encoder: Encoder, sources: list[PointsAt]) -> str:
    """An exposition of the sources that can be exposed."""
    exposition = encoder.exposition()
    for nth, source in enumerate(sources):
        with suppress(PointError):
            exposition.add(str(nth), source)
    return b"".join(exposition.pieces()).decode()


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=3, unique_by=lambda pair: pair[0]), NUMBERS)
def test_a_template_takes_new_numbers_whatever_is_in_its_labels(labels: list[tuple[str, str]], new: float) -> None:
    encoder = Encoder(OPENMETRICS_UTF8, timestamps=False)
    own = tuple((f"x{name}", value) for name, value in labels)
    for number in (0.5, new):
        points_at = PointsAt("%", 0.0, points=[Point("%b", "%s", number, labels=own)])
        assert written(encoder, points_at) == exposed(points_at, format_=OPENMETRICS_UTF8)


# prometheus_client reads the time -0.5 as 0.5 in OpenMetrics.
@given(st.integers(min_value=-(2**40), max_value=-1))
def test_a_time_before_1970_reads_back_the_same(stamp: int) -> None:
    family = only(read_text, exposed(PointsAt("a", stamp / 1000, points=[Point("b", "", 1)]), timestamps=True))
    assert [sample.timestamp for sample in family.samples] == [stamp / 1000]
