"""Whatever collectors say, a reader of the text format reads the same."""

import math
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from stator.entity import Histogram, Labels, Point, PointsAt, Summary
from stator.formatters.text import TextFormat

NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True)
# Names with two underscores in front are Prometheus' own; the two others are part of histograms and summaries.
LABEL_NAMES = NAMES.filter(lambda name: not name.startswith("__") and name not in ("le", "quantile"))
TEXTS = st.text()
NUMBERS = st.floats() | st.integers(min_value=-(10**300), max_value=10**300)
STAMPS = st.integers(min_value=-(2**40), max_value=2**40)


@st.composite
def label_sets(draw: st.DrawFn) -> tuple[Labels, list[Labels]]:
    """Labels in common, and differing labels of each of some points."""
    names = draw(st.lists(LABEL_NAMES, unique=True, min_size=1, max_size=4))
    common = draw(st.integers(min_value=0, max_value=len(names) - 1))
    values = st.tuples(*(TEXTS for _ in names[common:]))
    own = draw(st.lists(values, unique=True, min_size=1, max_size=3))
    shared = tuple((name, draw(TEXTS)) for name in names[:common])
    return shared, [tuple(zip(names[common:], each, strict=True)) for each in own]


def read(points_at: PointsAt) -> Metric:
    """The only family of an exposition, as prometheus_client reads it."""
    (family,) = text_string_to_metric_families(TextFormat().format(points_at).decode())
    return family


def bits(number: float) -> Any:
    """What tells numbers apart to the last bit: integers as they are, floats by their bytes, NaN as the only one."""
    if isinstance(number, int):
        return number
    return "NaN" if math.isnan(number) else struct.pack("d", number)


def told(sample: Sample) -> tuple[str, dict[str, str], Any]:
    return sample.name, sample.labels, bits(sample.value)


@given(label_sets(), st.data(), st.sampled_from(["gauge", "counter"]), STAMPS)
def test_numbers_labels_and_times_read_back_the_same(
    labels: tuple[Labels, list[Labels]], data: st.DataObject, type_: Any, stamp: int
) -> None:
    shared, own = labels
    points = [Point("b", "d", "bytes", type_, data.draw(NUMBERS), each) for each in own]
    family = read(PointsAt("a", stamp / 1000, shared, points))
    name = "a_b_bytes_total" if type_ == "counter" else "a_b_bytes"
    assert [told(sample) for sample in family.samples] == [
        (name, dict((*shared, *point.labels)), bits(point.value))  # type: ignore[arg-type] # numbers
        for point in points
    ]
    assert {sample.timestamp for sample in family.samples} == {stamp / 1000}


# The reader takes away what is blank at both ends.
@given(TEXTS.map(str.strip), NAMES, NAMES)
def test_names_and_help_read_back_the_same(help_: str, common: str, name: str) -> None:
    family = read(PointsAt(common, 0.0, points=[Point(name, help_, "", "gauge", 1)]))
    assert (family.name, family.documentation, family.type) == (f"{common}_{name}", help_, "gauge")


@given(
    st.dictionaries(st.floats(allow_nan=False), st.integers(min_value=0, max_value=2**63), max_size=5),
    st.floats(),
    st.integers(min_value=0, max_value=2**63),
)
def test_a_histogram_reads_back_the_same(buckets: dict[float, int], total: float, count: int) -> None:
    value = Histogram(tuple(sorted(buckets.items())), total, count)
    family = read(PointsAt("a", 0.0, points=[Point("b", "d", "", "histogram", value)]))
    read_buckets = {float(sample.labels["le"]): sample.value for sample in family.samples if "le" in sample.labels}
    assert family.type == "histogram"
    assert read_buckets == {**buckets, math.inf: count}
    assert {sample.name: bits(sample.value) for sample in family.samples if "le" not in sample.labels} == {
        "a_b_sum": bits(total),
        "a_b_count": count,
    }


@given(
    st.dictionaries(st.floats(min_value=0, max_value=1).map(abs), st.floats(), max_size=5),
    st.floats(),
    st.integers(min_value=0, max_value=2**63),
)
def test_a_summary_reads_back_the_same(quantiles: dict[float, float], total: float, count: int) -> None:
    value = Summary(tuple(sorted(quantiles.items())), total, count)
    family = read(PointsAt("a", 0.0, points=[Point("b", "d", "", "summary", value)]))
    samples = {sample.labels.get("quantile", sample.name): bits(sample.value) for sample in family.samples}
    assert family.type == "summary"
    assert samples.pop("a_b_sum") == bits(total)
    assert samples.pop("a_b_count") == count
    assert {float(quantile): at for quantile, at in samples.items()} == {
        quantile: bits(at) for quantile, at in quantiles.items()
    }
