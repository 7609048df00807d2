"""Metrics of an application's requests, by OpenTelemetry's conventions as Prometheus writes them.

https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from math import inf
from typing import TypeAlias

from stator.instrumentation.store import Bounds, Cell, Distribution, Store
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

SeriesKey: TypeAlias = tuple[str, str, str, int, str]
"""Method, scheme, route, status (0 if there was none) and type of the error, if one ended the request."""


class RequestMetrics:
    """Counts and times requests, as a collector.

    Args:
        store: Where the numbers are.
        buckets: Upper bounds of durations in seconds, ascending.
        max_series: Series of a histogram in the whole store; what would be one more counts under the route `OTHER`.
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
            series[0].observe(seconds)
            if self.has_sizes:
                series[1].observe(received)
                series[2].observe(sent)
            if trace_id and key in self._series:
                exemplar = Exemplar((("trace_id", trace_id),), seconds, time.time())
                self._exemplars[_labels(key)][bisect_left(self._buckets, seconds)] = exemplar

    def _add(self, key: SeriesKey) -> tuple[Distribution, ...]:
        """Returns the histograms of a key that is new, or those of its overflow; none for one that is excluded."""
        method, scheme, route, status, error = key
        if route in self._exclude:
            return ()
        labels, most = _labels(key), inf if route == OTHER else self._max
        duration = self._store.distribution(DURATION, labels, self._buckets, most)
        if duration is None:
            key = (method, scheme, OTHER, status, error)
            return self._series.get(key) or self._add(key)
        sizes = (REQUEST_SIZE, RESPONSE_SIZE) if self.has_sizes else ()
        others = (self._store.distribution(family, labels, SIZE_BUCKETS) for family in sizes)
        return self._series.setdefault(key, (duration, *filter(None, others)))

    def is_nonblocking(self) -> bool:
        """Returns True: the numbers are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Returns the metrics of all requests that are over, and of those that are being answered."""
        return PointsAt("", now, points=list(self._points()))

    def _points(self) -> Iterator[Point]:
        if self._target:
            yield Point("target_info", "What is observed", 1, type="info", labels=self._target)
        for (name, labels), value in self._store.values():
            yield Point(name, GAUGES[name], value, labels=labels)
        # Workers may have different bounds, as while a server reloads: a series then has several distributions.
        every: dict[str, dict[LabelPairs, list[tuple[Bounds, list[float]]]]] = {name: {} for name in HISTOGRAMS}
        for (name, labels), bounds, numbers in self._store.distributions():
            every[name].setdefault(labels, []).append((bounds, numbers))
        for family, desc in HISTOGRAMS.items():
            unit = family.rpartition("_")[2]
            for labels, each in every[family].items():
                exemplars = tuple(self._exemplars[labels].values()) if labels in self._exemplars else ()
                shown = exemplars if family == DURATION else ()
                yield Point(family, desc, _histogram(each), "histogram", unit, labels, shown)


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


def _histogram(distributions: Sequence[tuple[Bounds, list[float]]]) -> Histogram:
    """Returns one histogram of several distributions, whose counts are not cumulative."""
    bounds, numbers = distributions[0]
    for more_bounds, more in distributions[1:]:
        bounds, numbers = _added(bounds, numbers, more_bounds, more)
    *counts, count = map(int, accumulate(numbers[:-1]))
    return Histogram(tuple(zip(bounds, counts, strict=True)), numbers[-1], count)


def _added(bounds: Bounds, numbers: list[float], more_bounds: Bounds, more: list[float]) -> tuple[Bounds, list[float]]:
    """Returns the bounds that either of two distributions has, and the sums of their numbers."""
    by_bound: defaultdict[float, float] = defaultdict(float)
    for bound, number in (*zip(bounds, numbers[:-2], strict=True), *zip(more_bounds, more[:-2], strict=True)):
        by_bound[bound] += number
    both = tuple(sorted(by_bound))
    return both, [*(by_bound[bound] for bound in both), numbers[-2] + more[-2], numbers[-1] + more[-1]]
