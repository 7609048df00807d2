"""Converts prometheus_client's families to points, without timestamps: a registry's, and its parser's."""

from collections.abc import Iterable
from math import inf, nan
from operator import le, lt
from typing import TYPE_CHECKING, Any

from stator.exposition.distributions import number_of
from stator.points import Exemplar, Histogram, Labels, MetricType, Point, PointError, Summary

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.samples import Sample

# A sample's type, by its family's type and the suffix of its name. Others are unknown.
_TYPES: dict[str, dict[str, MetricType]] = {
    "counter": {"": "counter", "_total": "counter", "_created": "gauge"},
    "gauge": {"": "gauge"},
    "histogram": {"_created": "gauge"},
    "summary": {"_created": "gauge"},
    "info": {"_info": "info"},
    "stateset": {"": "gauge"},
    "gaugehistogram": {"_bucket": "gauge", "_gcount": "gauge", "_gsum": "gauge"},
}


def points(families: Iterable["Metric"]) -> list[Point]:
    """Returns the points of families; samples that contradict their type, as a counter below 0, are `unknown`."""
    return [point for family in families for point in _points(family)]


def _points(family: "Metric") -> list[Point]:
    rest = family.samples
    read = {"histogram": _histograms, "summary": _summaries}.get(family.type)
    points = read(family) if read else None
    if points is not None:
        rest = [sample for sample in rest if sample.name == f"{family.name}_created"]
    types = {name: _type(family, name) for name in {sample.name for sample in rest}}
    own = (_point(family, each.name, types[each.name], each.value, tuple(each.labels.items()), [each]) for each in rest)
    return [*(points or ()), *own]


def _point(
    family: "Metric", name: str, type_: MetricType, value: Any, labels: Labels, samples: Iterable["Sample"]
) -> Point:
    has_exemplars = type_ in ("counter", "histogram")
    given = [each.exemplar for each in samples if each.exemplar] if has_exemplars else ()
    try:
        exemplars = tuple(
            Exemplar(labels, value, None if stamp is None else float(stamp)) for labels, value, stamp in given
        )
    except PointError as error:
        msg = f"{name}: {error}"
        raise PointError(msg) from error
    return Point(name, family.documentation, value, type_, family.unit, labels, exemplars)


def _type(family: "Metric", name: str) -> MetricType:
    """Returns the type of a family's samples of one name."""
    suffix = name.removeprefix(family.name) if name.startswith(family.name) else name
    type_ = _TYPES.get(family.type, {}).get(suffix, "unknown")
    values = (sample.value for sample in family.samples if sample.name == name)
    is_bad_counter = type_ == "counter" and not all(value >= 0 for value in values)
    is_bad_info = type_ == "info" and not all(value == 1 for value in values)
    return "unknown" if is_bad_counter or is_bad_info else type_


def _histograms(family: "Metric") -> list[Point] | None:
    """Returns a family's histograms, or None where some samples make no histogram."""
    histograms = []
    for labels, parts in _grouped(family, "_bucket", "le").items():
        buckets = sorted(parts["_bucket"], key=lambda bucket: bucket[:2])
        if not {"_sum", "_count"} <= parts.keys() or not buckets or buckets[-1][:2] != (inf, parts["_count"]):
            return None
        bounds, counts, samples = zip(*buckets, strict=True)
        if not (all(map(lt, bounds, bounds[1:])) and counts[0] >= 0 and all(map(le, counts, counts[1:]))):
            return None
        own = tuple((sample.labels["le"], sample.value) for sample in samples[:-1])
        histogram = Histogram(own, parts["_sum"], parts["_count"])
        histograms.append(_point(family, family.name, "histogram", histogram, labels, samples))
    return histograms


def _summaries(family: "Metric") -> list[Point] | None:
    """Returns a family's summaries, or None where some samples make no summary."""
    summaries = []
    for labels, parts in _grouped(family, "", "quantile").items():
        quantiles = sorted(parts[""], key=lambda each: each[0])
        is_whole = {"_sum", "_count"} <= parts.keys() and all(0 <= quantile <= 1 for quantile, _, _ in quantiles)
        if not (is_whole and parts["_count"] >= 0):
            return None
        own = tuple((sample.labels["quantile"], sample.value) for _, _, sample in quantiles)
        summary = Summary(own, parts["_sum"], parts["_count"])
        summaries.append(_point(family, family.name, "summary", summary, labels, ()))
    return summaries


def _grouped(family: "Metric", listed: str, key: str) -> dict[Labels, dict[str, Any]]:
    """Returns samples by labels, then by suffix: of `listed` a list of (number in the label `key`, value, sample)."""
    # A sample that does not belong there, or has its labels in another order, makes a group that lacks the rest.
    groups: dict[Labels, dict[str, Any]] = {}
    for sample in family.samples:
        suffix, labels = sample.name.removeprefix(family.name), tuple(sample.labels.items())
        if suffix == listed:
            own = labels[:-1] if labels and labels[-1][0] == key else tuple(pair for pair in labels if pair[0] != key)
            number = _number(sample.labels.get(key, ""))
            groups.setdefault(own, {listed: []})[listed].append((number, sample.value, sample))
        elif suffix != "_created":
            groups.setdefault(labels, {listed: []})[suffix] = sample.value
    return groups


def _number(text: str) -> float:
    try:
        return number_of(text)
    except ValueError:
        return nan
