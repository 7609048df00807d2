"""What collectors say and formatters write: the one language that both share."""

from collections.abc import Iterable
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from attrs import frozen
from msgspec import Struct

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label pairs in the order in which they are written."""

MetricType: TypeAlias = Literal["counter", "gauge", "histogram", "summary", "info", "unknown"]
"""A family's type, by its OpenMetrics name."""


@frozen
class Histogram:
    """A distribution counted in buckets.

    Attributes:
        buckets: (upper bound, cumulative count) pairs, ascending; the ``+Inf`` bucket is implied by ``count``.
        sum: Sum of all observations, in the point's unit.
        count: Number of observations.
    """

    buckets: tuple[tuple[float, int], ...]
    sum: float
    count: int


@frozen
class Summary:
    """A distribution told by quantiles.

    Attributes:
        quantiles: (quantile from 0 to 1, value) pairs, ascending.
        sum: Sum of all observations, in the point's unit.
        count: Number of observations.
    """

    quantiles: tuple[tuple[float, float], ...]
    sum: float
    count: int


Value: TypeAlias = int | float | Histogram | Summary


class PointError(Exception):
    """A point can't be exposed; the message names it and says why."""


# A Struct, since a scrape may have a hundred thousand of them: made six times as fast as a frozen attrs class's, and
# never looked at by the garbage collector, as they hold nothing that could hold them.
class Point(Struct, frozen=True, gc=False):
    """One value of one family.

    Attributes:
        name: What is measured, without the common name and the unit: ``used``; whole where there is no common name.
        desc: One sentence for a reader.
        value: A number, or the histogram or summary that ``type`` names.
        type: The family's type.
        unit: Base unit (``seconds``, ``bytes``), or empty where there is none.
        labels: Labels of this point alone.
    """

    name: str
    desc: str
    value: Value
    type: MetricType = "gauge"
    unit: str = ""
    labels: Labels = ()


class PointsAt(Struct, frozen=True):
    """Related points, and what they have in common.

    Attributes:
        name: First part of each exposed name: ``du``. Empty where each point's own name is whole: it's exposed as it
            is, with its unit and a counter's ``_total`` only where it has them.
        stamp: When they were collected, in Unix seconds.
        labels: Labels of every point, written before its own.
        points: The points, in any order.
    """

    name: str
    stamp: float
    labels: Labels = ()
    points: Iterable[Point] = ()


class Collector(Protocol):
    """Collects points."""

    def collect(self, now: float) -> PointsAt | Iterable[Point]:
        """Returns the points at a time in Unix seconds; names of bare points are whole. Raises on failure."""


@runtime_checkable
class NonBlockingCollector(Collector, Protocol):
    """A collector that knows whether it may have to wait."""

    def is_nonblocking(self) -> bool:
        """Whether it would answer within microseconds now, whatever happens elsewhere; raises nothing."""


def family_name(common: str, name: str, unit: str) -> str:
    """Name under which a point's family is known: ``{common}_{name}`` and ``_{unit}`` where there is one.

    Without a common name, the point's own is whole.
    """
    if not common:
        return name
    return f"{common}_{name}_{unit}" if unit else f"{common}_{name}"
