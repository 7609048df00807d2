"""Points, which collectors collect and encoders encode."""

from collections.abc import Iterable, Mapping
from math import isinf, isnan
from numbers import Real
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


# Of an exemplar's labels: https://prometheus.io/docs/specs/om/open_metrics_spec/#exemplars
MOST_LETTERS = 128

Value: TypeAlias = int | float | Histogram | Summary


class PointError(Exception):
    """A point can't be exposed. The message names it and says why."""


@frozen
class Exemplar:
    """One example of what a counter or a bucket counts, such as the trace of a request.

    Attributes:
        labels: Its labels, such as ``{"trace_id": "4bf92f35"}``; names and values have 128 characters at most.
        value: What was observed, or what was added to the counter.
        stamp: The time of it in Unix seconds, if it is known.

    Raises:
        PointError: It can't be exposed.
    """

    labels: Labels
    value: float
    stamp: float | None = None

    def __attrs_post_init__(self) -> None:
        try:
            pairs = [*(self.labels.items() if isinstance(self.labels, Mapping) else self.labels)]
            letters = "".join([part for pair in pairs for part in pair])
            letters.encode()
            is_named = all(name and not name.startswith("__") for name, _ in pairs)
        except (TypeError, ValueError, AttributeError):
            is_named, letters, pairs = False, "", []
        if not is_named or len(dict(pairs)) < len(pairs):
            msg = f"an exemplar can't have the labels {self.labels!r}"
            raise PointError(msg)
        if len(letters) > MOST_LETTERS:
            msg = f"an exemplar's labels have more than {MOST_LETTERS} characters: {self.labels!r}"
            raise PointError(msg)
        for number in (self.value, 0 if self.stamp is None else self.stamp):
            try:
                is_number = isinstance(number, Real) and not isnan(number)
            except OverflowError as error:
                msg = "an exemplar's value or time is too large for a float"
                raise PointError(msg) from error
            if not is_number:
                msg = f"an exemplar's value and time must be numbers, not {number!r}"
                raise PointError(msg)
        if self.stamp is not None and isinf(self.stamp):
            msg = f"an exemplar's time can't be {self.stamp!r}"
            raise PointError(msg)


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
        exemplars: Of a counter or a histogram, in which each stands at the bucket of its value; of several at one place
            the last is exposed, and only in OpenMetrics.
    """

    name: str
    desc: str
    value: Value
    type: MetricType = "gauge"
    unit: str = ""
    labels: Labels = ()
    exemplars: tuple[Exemplar, ...] = ()


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
