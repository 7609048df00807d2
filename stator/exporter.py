"""From collectors to bytes: asks each collector, and formats what it says."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

from attrs import frozen

from stator.entity import Labels, Point, PointsAt
from stator.launch.settings import setting
from stator.log import Log


class Collector(Protocol):
    """What gives points."""

    def collect(self, now: float) -> PointsAt:
        """Points as they are now, in Unix seconds; raises on failure."""


class Formatter(Protocol):
    """What writes points."""

    content_type: str

    def format(self, points_at: PointsAt) -> bytes:
        """An exposition of points."""


@frozen
class Config:
    """How metrics are exposed."""

    timestamps: Literal["auto", "always", "never"] = setting(
        "auto",
        desc="timestamps on samples; auto: only in text 0.0.4, as Prometheus' staleness needs them away",
    )


@frozen
class Scrape:
    """An answer to a scrape."""

    content_type: str
    body: bytes


class Exporter:
    """Exposes what collectors collect, and how each of them fared.

    Args:
        collectors: Collectors by name, in the order in which they are exposed.
        formatter: What writes the points.
        build: Labels of ``stator_build_info``.
        log: Where failures are told.
        now: Unix time in seconds.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        collectors: Mapping[str, Collector],
        formatter: Formatter,
        build: Labels,
        log: Log,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._collectors, self._formatter, self._build, self._log = collectors, formatter, build, log
        self._now, self._clock = now, clock

    def scrape(self) -> Scrape:
        """Collects and formats everything; a collector that fails is left out, told and counted."""
        now = self._now()
        body = bytearray()
        outcomes: list[Point] = []
        for name, collector in self._collectors.items():
            start = self._clock()
            formatted = self._format(name, collector, now)
            outcomes += _outcome(name, self._clock() - start, success=formatted is not None)
            body += formatted or b""
        build = Point("build_info", "Version of Stator and of Python", "", "gauge", 1, self._build)
        body += self._formatter.format(PointsAt("stator", now, points=[*outcomes, build]))
        return Scrape(self._formatter.content_type, bytes(body))

    def _format(self, name: str, collector: Collector, now: float) -> bytes | None:
        try:
            return self._formatter.format(collector.collect(now))
        # A collector is anybody's code: one must not take down the rest.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._log.error("failed to collect", collector=name, error=error)
            return None


def _outcome(name: str, seconds: float, *, success: bool) -> Iterator[Point]:
    labels = (("collector", name),)
    desc = "Whether the collector's last collection worked"
    yield Point("collector_success", desc, "", "gauge", int(success), labels)
    yield Point("collector_duration", "Time that the collection took", "seconds", "gauge", seconds, labels)
