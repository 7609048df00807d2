"""The same hundred thousand points for us and for prometheus_client: one family, three labels, new values each time."""

import os
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from stator.points import Labels, Point, PointsAt

COUNT = int(os.environ.get("BENCH_POINTS", "100000"))
KEYS = ("host", "path", "code")


def label_values(nth: int) -> tuple[str, str, str]:
    """Labels of one point, as a fleet's might be."""
    return f"host{nth % 100}.example", f"/items/{nth}", str(200 + nth % 7)


def labels_of(nth: int) -> Labels:
    """The same as a collector of ours has them."""
    return tuple(zip(KEYS, label_values(nth), strict=True))


class Points:
    """As a collector of ours would be written: labels made once, points each time."""

    def __init__(self) -> None:
        self._labels = [labels_of(nth) for nth in range(COUNT)]

    def collect(self, now: float) -> PointsAt:
        points = [
            Point("latency", "Time that requests took", nth * now, unit="seconds", labels=labels)
            for nth, labels in enumerate(self._labels)
        ]
        return PointsAt("bench", now, points=points)


class Peer(Collector):
    """As a custom collector of prometheus_client is written."""

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
    """Gives what a peer collected once, so that formatting alone is measured."""

    def __init__(self) -> None:
        self._families = list(Peer().collect())

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of prometheus_client's with one collector."""
    made = CollectorRegistry()
    made.register(collector)
    return made
