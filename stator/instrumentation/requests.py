"""Metrics of an application's requests, by OpenTelemetry's conventions as Prometheus writes them.

https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from math import inf
from typing import NamedTuple, TypeAlias

from stator.instrumentation.store import Cell, Store
from stator.points import Exemplar, Histogram, LabelPairs, Point, PointsAt

DURATION, ACTIVE = "http_server_request_duration_seconds", "http_server_active_requests"
REQUEST_SIZE, RESPONSE_SIZE = "http_server_request_body_size_bytes", "http_server_response_body_size_bytes"
WEBSOCKETS = "stator_websockets_active"
HISTOGRAMS = {
    DURATION: "Time from the request to the last byte of its response",
    REQUEST_SIZE: "Size of the request's body as the application read it",
    RESPONSE_SIZE: "Size of the response's body",
}
GAUGES = {ACTIVE: "Requests that are being answered", WEBSOCKETS: "WebSockets that are open"}
SIZE_BUCKETS = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
# In place of a value that is none of the known ones, or of which there are too many.
OTHER = "_OTHER"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
SCHEMES = frozenset(("http", "https"))
_BUCKET, _SUM = "_bucket", "_sum"

SeriesKey: TypeAlias = tuple[str, str, str, int, str]
"""Method, scheme, route, status (0 if there was none) and type of the error, if one ended the request."""


class Distribution(NamedTuple):
    """What adds to the cells of one histogram: to that of each bucket, which are not cumulative, and to the sum."""

    add_to_bucket: list[Callable[[float], None]]
    add_to_sum: Callable[[float], None]
    bounds: tuple[float, ...]

    @classmethod
    def of(cls, store: Store, family: str, labels: LabelPairs, bounds: tuple[float, ...]) -> "Distribution":
        """Returns what adds to a series of a store."""
        cells = [store.cell(family + _BUCKET, (*labels, ("le", repr(bound)))) for bound in (*bounds, inf)]
        return cls([cell.inc for cell in cells], store.cell(family + _SUM, labels).inc, bounds)


class RequestMetrics:
    """Counts and times requests, as a collector.

    Args:
        store: Where the numbers are.
        buckets: Upper bounds of durations in seconds, ascending.
        max_series: Series of a histogram; what would be one more counts under the route `OTHER`.
        exclude: Routes that are not counted.
        has_sizes: Whether sizes of bodies are counted too.
        target: Labels of ``target_info``.
    """

    def __init__(
        self,
        store: Store,
        buckets: tuple[float, ...],
        max_series: int,
        *,
        exclude: Collection[str] = (),
        has_sizes: bool = False,
        target: LabelPairs = (),
    ) -> None:
        self._store, self._buckets, self._max = store, buckets, max_series
        self._exclude, self.has_sizes, self._target = frozenset(exclude), has_sizes, target
        self._series: dict[SeriesKey, tuple[Distribution, ...]] = {}
        self._begun: dict[tuple[str, str], tuple[str, str, Cell]] = {}
        self.websockets: Cell = store.cell(WEBSOCKETS, ())
        # The latest of each bucket that this process counted.
        self._exemplars: defaultdict[LabelPairs, dict[int, Exemplar]] = defaultdict(dict)

    def move(self, store: Store) -> None:
        """Counts in another store from now on; to be called before the first request."""
        self._store, self.websockets = store, store.cell(WEBSOCKETS, ())

    def begin(self, method: str, scheme: str) -> tuple[str, str, Cell]:
        """Counts a request as being answered; returns its labels, and the cell from which to take it when it's over."""
        begun = self._begun.get((method, scheme)) or self._labelled(method, scheme)
        begun[2].inc(1.0)
        return begun

    def _labelled(self, method: str, scheme: str) -> tuple[str, str, Cell]:
        known = method in METHODS and scheme in SCHEMES  # there is no end of others
        labels = (method if method in METHODS else OTHER, scheme if scheme in SCHEMES else OTHER)
        names = ("http_request_method", "url_scheme")
        begun = (*labels, self._store.cell(ACTIVE, tuple(zip(names, labels, strict=True))))
        return self._begun.setdefault((method, scheme), begun) if known else begun

    def count(self, key: SeriesKey, seconds: float, received: int = 0, sent: int = 0, trace_id: str = "") -> None:
        """Counts a request that is over, with the sizes of its body and of its response's."""
        series = self._series.get(key) or self._add(key)
        # Loops and calls that most requests can do without are left out.
        if series:
            add_to_bucket, add_to_sum, bounds = series[0]
            add_to_bucket[bisect_left(bounds, seconds)](1.0)
            add_to_sum(seconds)
            if self.has_sizes:
                for size, (add_to_bucket, add_to_sum, bounds) in zip((received, sent), series[1:], strict=True):
                    add_to_bucket[bisect_left(bounds, size)](1.0)
                    add_to_sum(size)
            if trace_id and key in self._series:
                exemplar = Exemplar((("trace_id", trace_id),), seconds, time.time())
                self._exemplars[_labels(key)][bisect_left(self._buckets, seconds)] = exemplar

    def _add(self, key: SeriesKey) -> tuple[Distribution, ...]:
        """Returns the histograms of a key that is new, or those of its overflow; none for one that is excluded."""
        method, scheme, route, status, error = key
        if route in self._exclude:
            return ()
        if len(self._series) >= self._max and route != OTHER:
            key = (method, scheme, OTHER, status, error)
            return self._series.get(key) or self._add(key)
        labels = _labels(key)
        bounds = {DURATION: self._buckets}
        if self.has_sizes:
            bounds |= dict.fromkeys((REQUEST_SIZE, RESPONSE_SIZE), SIZE_BUCKETS)
        series = tuple(Distribution.of(self._store, family, labels, each) for family, each in bounds.items())
        return self._series.setdefault(key, series)

    def is_nonblocking(self) -> bool:
        """Returns True: the numbers are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Returns the metrics of all requests that are over, and of those that are being answered."""
        return PointsAt("", now, points=list(self._points()))

    def _points(self) -> Iterator[Point]:
        if self._target:
            yield Point("target_info", "What is observed", 1, type="info", labels=self._target)
        buckets: dict[str, dict[LabelPairs, list[tuple[float, int]]]] = defaultdict(lambda: defaultdict(list))
        sums: dict[tuple[str, LabelPairs], float] = {}
        for (name, labels), value in self._store.values():
            if name in GAUGES:
                yield Point(name, GAUGES[name], value, labels=labels)
            elif name.endswith(_BUCKET):
                buckets[name.removesuffix(_BUCKET)][labels[:-1]].append((float(labels[-1][1]), int(value)))
            else:
                sums[name.removesuffix(_SUM), labels] = value
        for family, desc in HISTOGRAMS.items():
            for labels, counts in buckets[family].items():
                histogram = _histogram(counts, sums.get((family, labels), 0.0))
                exemplars = tuple(self._exemplars[labels].values()) if labels in self._exemplars else ()
                shown = exemplars if family == DURATION else ()
                yield Point(family, desc, histogram, "histogram", family.rpartition("_")[2], labels, shown)


def _labels(key: SeriesKey) -> LabelPairs:
    method, scheme, route, status, error = key
    labels: LabelPairs = (
        ("http_request_method", method),
        ("url_scheme", scheme),
        ("http_route", _encodable(route)),
        ("http_response_status_code", str(status or "")),
    )
    return (*labels, ("error_type", _encodable(error))) if error else labels


def _encodable(text: str) -> str:
    """Returns a text without lone surrogates, which no exposition could have."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _histogram(counts: list[tuple[float, int]], total: float) -> Histogram:
    """Returns a histogram of counts that are not cumulative, by their upper bounds."""
    count, buckets = 0, []
    for bound, here in sorted(counts):
        count += here
        buckets.append((bound, count))
    return Histogram(tuple(buckets[:-1]), total, count)
