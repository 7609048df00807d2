"""The numbers of histograms and summaries, and what is wrong with them."""

from collections.abc import Sequence
from math import inf
from operator import le, lt
from typing import Any

from stator.points import Histogram, MetricType, Summary

CLASSES: dict[str, type[Any]] = {"histogram": Histogram, "summary": Summary}
SUFFIXES: dict[str, tuple[str, ...]] = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
# Labels that tell a distribution's lines from each other.
RESERVED = {"histogram": "le", "summary": "quantile"}
# What a value that is no number, or a thing of the wrong shape, may raise: other people's numbers included.
INVALID_VALUE = (TypeError, ValueError, AttributeError, ArithmeticError)


def bad_bounds(bounds: Sequence[float], type_: MetricType) -> str | None:
    """Why these can't be a histogram's upper bounds, or a summary's quantiles, if so."""
    if not all(map(lt, bounds, bounds[1:])):
        return f"its {'buckets' if type_ == 'histogram' else 'quantiles'} must ascend"
    if type_ == "summary" and not all(0 <= quantile <= 1 for quantile in bounds):
        return "its quantiles must be from 0 to 1"
    return None


def shapes_of(type_: MetricType, values: Sequence[Any]) -> list[tuple[float, ...]]:
    """Upper bounds, `+Inf` included, or quantiles of each.

    Raises:
        INVALID_VALUE: One is no histogram, or no summary.
    """
    if type_ == "histogram":
        return [(*(bound for bound, _ in each.buckets if bound != inf), inf) for each in values]
    return [tuple(quantile for quantile, _ in each.quantiles) for each in values]


def numbers_of(value: Histogram | Summary) -> list[int | float]:
    """The numbers of a histogram or summary, in the order of its lines.

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
    return [*(at for _, at in value.quantiles), value.sum, value.count]


def every(value: Histogram | Summary) -> list[Any]:
    """All numbers of a histogram or summary but its bounds or quantiles."""
    own = value.buckets if isinstance(value, Histogram) else value.quantiles
    return [*(number for _, number in own), value.sum, value.count]
