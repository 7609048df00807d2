"""Points, which collectors collect and encoders encode."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from attrs import frozen
from msgspec import Struct

LabelPairs: TypeAlias = tuple[tuple[str, str], ...]
"""Labels as pairs of name and value, in the order in which they are written."""

Labels: TypeAlias = LabelPairs | Mapping[str, str]
"""Labels of a point: pairs, which are the fastest, or a mapping of names to values."""

MetricType: TypeAlias = Literal["counter", "gauge", "histogram", "summary", "info", "unknown"]
"""A family's type, by its OpenMetrics name."""


@frozen
class Histogram:
    """A distribution counted in buckets.

    Attributes:
        buckets: (upper bound, cumulative count) pairs, ascending; the ``+Inf`` bucket is implied by ``count``. A bound
            that is a text, such as ``"1"`` or ``"1e3"``, is written as it is where the format allows it.
        sum: Sum of all observations, in the point's unit.
        count: Number of observations.
    """

    buckets: tuple[tuple[float | str, int], ...]
    sum: float
    count: int


@frozen
class Summary:
    """A distribution described by quantiles.

    Attributes:
        quantiles: (quantile from 0 to 1, value) pairs, ascending; a quantile may be a text, as a bound may.
        sum: Sum of all observations, in the point's unit.
        count: Number of observations.
    """

    quantiles: tuple[tuple[float | str, float], ...]
    sum: float
    count: int


Value: TypeAlias = int | float | Histogram | Summary


class PointError(Exception):
    """A point can't be exposed. The message names it and says why."""


class IncompleteError(Exception):
    """A part of a collection failed, as the error's cause says; `points_at` has the rest."""

    def __init__(self, points_at: "PointsAt") -> None:
        super().__init__("a part of the collection failed")
        self.points_at = points_at


# A Struct, since a scrape may have a hundred thousand of them. They are created six times as fast as instances of a
# frozen attrs class, and the garbage collector need not look at them, since they can't be part of a cycle.
class Point(Struct, frozen=True, gc=False):
    """One value of one family.

    Attributes:
        name: The name of the family without the common name and the unit: ``used``. If the common name is empty, it is
            exposed as it is.
        desc: The family's description, one sentence.
        value: A number; a `Histogram` or `Summary` if `type` says so.
        type: The family's type.
        unit: The base unit, such as ``seconds`` or ``bytes``; empty if there is none.
        labels: Labels of this point alone, as pairs or as a mapping.
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
        name: The first part of each exposed name: ``du``. If it is empty, the points' own names are exposed as they
            are: neither a unit nor a counter's ``_total`` is appended.
        stamp: The time of the collection in Unix seconds.
        labels: Labels of every point, which are written before its own.
        points: The points, in any order; any iterable.
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
    """A collector that knows whether `collect` may block."""

    def is_nonblocking(self) -> bool:
        """Whether `collect` would return within microseconds now, whatever else happens. Raises nothing."""


def family_name(common: str, name: str, unit: str) -> str:
    """The name of a point's family: ``{common}_{name}_{unit}``, or the point's own if there is no common name."""
    if not common:
        return name
    return f"{common}_{name}_{unit}" if unit else f"{common}_{name}"


@frozen
class CollectorContext:
    """What a collector's Config builds it from, beside its settings.

    Attributes:
        app_id: Name of the application.
        run_id: Id of this run of it.
        processes: The service's ``ServiceProcesses``.
        log: The log.
        collectors: Names of all collectors that run.
    """

    app_id: str
    run_id: str
    processes: Any
    log: Any
    collectors: tuple[str, ...] = ()
