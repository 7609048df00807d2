"""A hundred thousand points for Stator and for prometheus_client: one family, three labels, new values each time."""

import os
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from stator.points import Labels, Point, PointsAt

COUNT = int(os.environ.get("BENCH_POINTS", "100000"))
KEYS = ("host", "path", "code")


def label_values(nth: int) -> tuple[str, str, str]:
    """The label values of one point, as a fleet might have them."""
    return f"host{nth % 100}.example", f"/items/{nth}", str(200 + nth % 7)


def labels_of(nth: int) -> Labels:
    """The labels of one point for Stator."""
    return tuple(zip(KEYS, label_values(nth), strict=True))


class Points:
    """A collector for Stator, as one would write it: labels are made once, points each time."""

    def __init__(self) -> None:
        self._labels = [labels_of(nth) for nth in range(COUNT)]

    def collect(self, now: float) -> PointsAt:
        points = [
            Point("latency", "Time that requests took", nth * now, unit="seconds", labels=labels)
            for nth, labels in enumerate(self._labels)
        ]
        return PointsAt("bench", now, points=points)


class Peer(Collector):
    """A custom collector for prometheus_client, as one would write it."""

    def __init__(self) -> None:
        self._labels = [label_values(nth) for nth in range(COUNT)]
        self._scrapes = 1.5e9

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self._scrapes += 0.25
        family = GaugeMetricFamily("bench_latency_seconds", "Time that requests took", labels=KEYS)
        for nth, labels in enumerate(self._labels):
            family.add_metric(labels, nth * self._scrapes)
        yield family


class Ready(Collector):
    """Returns the families that `Peer` collected once, to measure formatting alone."""

    def __init__(self) -> None:
        self._families = list(Peer().collect())

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of prometheus_client with one collector."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry
