"""The bounds and numbers of histograms and summaries. What is wrong with these is raised as one of `INVALID_VALUE`."""

from collections.abc import Sequence
from math import inf
from operator import le, lt
from typing import Any, TypeAlias

from stator.exposition import numbers
from stator.exposition.columns import safe_repr
from stator.exposition.format import Format
from stator.exposition.validation import BadPointError
from stator.points import Histogram, MetricType, Summary

CLASSES: dict[str, type[Any]] = {"histogram": Histogram, "summary": Summary}
SUFFIXES: dict[str, tuple[str, ...]] = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


Shape: TypeAlias = tuple[float | str, ...]
"""The upper bounds of a histogram, `+Inf` included, or the quantiles of a summary."""


def shapes_of(type_: MetricType, values: Sequence[Any]) -> list[Shape]:
    """The shape of each histogram or summary."""
    if not all(isinstance(value, CLASSES[type_]) for value in values):
        msg = f"{safe_repr(values[0])} is not a {CLASSES[type_].__name__}"
        raise BadPointError(msg)
    if type_ == "histogram":
        return [(*(bound for bound, _ in each.buckets if bound != inf), inf) for each in values]
    return [tuple(quantile for quantile, _ in each.quantiles) for each in values]


def bounds_of(shape: Shape, type_: MetricType, format_: Format) -> list[str]:
    """The upper bounds or quantiles as they are written."""
    bounds = [*map(number_of, shape)]
    if not all(map(lt, bounds, bounds[1:])):
        msg = f"its {'buckets' if type_ == 'histogram' else 'quantiles'} must ascend"
        raise BadPointError(msg)
    if type_ == "summary" and not all(0 <= quantile <= 1 for quantile in bounds):
        msg = "its quantiles must be from 0 to 1"
        raise BadPointError(msg)
    if format_.canonical_bounds:
        return [*map(numbers.bound, bounds)]
    pairs = zip(shape, bounds, strict=True)
    return [bound if isinstance(bound, str) else numbers.bound(number) for bound, number in pairs]


def number_of(bound: float | str) -> float:
    """The number of an upper bound or quantile, which may be a text."""
    if not isinstance(bound, str):
        return float(numbers.text(bound))
    if "_" in bound or bound != bound.strip():  # to Python they are numbers
        raise ValueError(bound)
    return float(bound)


def has_sum(shape: Shape, type_: MetricType, format_: Format) -> bool:
    """Whether a distribution has lines for its sum and count beside those of its buckets or quantiles."""
    return format_.sums_below_zero or type_ == "summary" or float(shape[0]) >= 0


def numbers_of(value: Histogram | Summary) -> list[float]:
    """The numbers of a histogram or summary: of its buckets or quantiles, then its sum and its count."""
    own: list[float]
    if isinstance(value, Histogram):
        counts = [*(count for _, count in value.buckets), value.count]
        own = [*(count for bound, count in value.buckets if bound != inf), value.count]
    else:
        counts, own = [value.count], [number for _, number in value.quantiles]
    if not (counts[0] >= 0 and all(map(le, counts, counts[1:]))):
        msg = f"the counts of {safe_repr(value)} must be zero or more, must not fall, nor exceed its own"
        raise BadPointError(msg)
    return [*own, value.sum, value.count]
