"""The numbers of histograms and summaries, and what may be wrong with them."""

from collections.abc import Sequence
from math import inf
from operator import le, lt
from typing import Any

from stator.exposition.format import Format
from stator.points import Histogram, MetricType, Summary

CLASSES: dict[str, type[Any]] = {"histogram": Histogram, "summary": Summary}
SUFFIXES: dict[str, tuple[str, ...]] = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
# The label by which the lines of one distribution differ.
RESERVED = {"histogram": "le", "summary": "quantile"}
# What a value that is not a number, or not of the right shape, may raise: numbers of other libraries included.
INVALID_VALUE = (TypeError, ValueError, AttributeError, ArithmeticError)


def bad_bounds(bounds: Sequence[float], type_: MetricType) -> str | None:
    """Why these can't be a histogram's upper bounds or a summary's quantiles, or None."""
    if not all(map(lt, bounds, bounds[1:])):
        return f"its {'buckets' if type_ == 'histogram' else 'quantiles'} must ascend"
    if type_ == "summary" and not all(0 <= quantile <= 1 for quantile in bounds):
        return "its quantiles must be from 0 to 1"
    return None


def shapes_of(type_: MetricType, values: Sequence[Any]) -> list[tuple[float, ...]]:
    """The upper bounds of each histogram, `+Inf` included, or the quantiles of each summary.

    Raises:
        INVALID_VALUE: A value is not a histogram, or not a summary.
    """
    if type_ == "histogram":
        return [(*(bound for bound, _ in each.buckets if bound != inf), inf) for each in values]
    return [tuple(quantile for quantile, _ in each.quantiles) for each in values]


def has_sum(shape: tuple[float, ...], type_: MetricType, format_: Format) -> bool:
    """Whether a distribution has lines for its sum and count beside those of its buckets or quantiles."""
    return format_.sums_below_zero or type_ == "summary" or shape[0] >= 0


def numbers_of(value: Histogram | Summary) -> list[int | float]:
    """The numbers of a histogram or summary: of its buckets or quantiles, then its sum and its count.

    Raises:
        INVALID_VALUE: The counts of a histogram's buckets fall, or exceed its own.
    """
    if isinstance(value, Histogram):
        counts = [*(count for _, count in value.buckets), value.count]
        if not (counts[0] >= 0 and all(map(le, counts, counts[1:]))):
            raise ValueError
        return [*(count for bound, count in value.buckets if bound != inf), value.count, value.sum, value.count]
    if not value.count >= 0:
        raise ValueError
    return [*(number for _, number in value.quantiles), value.sum, value.count]
