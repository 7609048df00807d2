"""The host under node_exporter's names, so that dashboards and alerts that were made for it just work."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.log.changes import ChangeLog
from stator.points import Labels, Point, PointError, PointsAt

SUCCESS = Family("scrape_collector_success", "Whether a group of families could be collected", "", "gauge")
DURATION = Family("scrape_collector_duration", "Time that a group of families took", "seconds", "gauge")


class Group(Protocol):
    """Families that node_exporter collects together, and that fail together."""

    def points(self, files: Files, now: float) -> list[Point]:
        """All of the group's points as they are now, in Unix seconds; raises on failure."""


class Host:
    """Collects what the kernel tells of the host, under node_exporter's names and with its labels, types and units.

    Each group can fail without the others. Which of its families there are depends on the kernel and the devices, and
    those of ``vmstat`` on the fields that are chosen too.

    Args:
        groups: The groups by node_exporter's names.
        files: Opens what one scrape reads.
        troubles: Where groups that fail are told.
        clock: Seconds that only go up.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        files: Callable[[], Files],
        troubles: ChangeLog,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._groups, self._files, self._troubles, self._clock = groups, files, troubles, clock
        self._labels = {name: (("collector", name),) for name in groups}

    def collect(self, now: float) -> PointsAt:
        """Reads each group's files; a group that fails is missing, and told in `node_scrape_collector_success`."""
        files, points, wrong = self._files(), [], {}
        for name, group in self._groups.items():
            begin = self._clock()
            try:
                points += _sensible(group.points(files, now))
            except Exception as error:  # noqa: BLE001 # who knows what other kernels say: the rest is served
                wrong[name] = f"{type(error).__name__}: {error}"
            labels = self._labels[name]
            points.append(DURATION.at(self._clock() - begin, labels))
            points.append(SUCCESS.at(int(name not in wrong), labels))
        self._troubles.update(wrong)
        return PointsAt("node", now, points=points)


def _sensible(points: list[Point]) -> list[Point]:
    """Some points, where they can be exposed: others would take the whole host with them.

    Raises:
        PointError: Two are the same, or a counter is below zero.
    """
    if len(set(map(_series, points))) < len(points):
        twice = next(point for at, point in enumerate(points) if _series(point) in map(_series, points[:at]))
        msg = f"node_{twice.name} {[*twice.labels]} comes twice"
        raise PointError(msg)
    for point in points:
        if point.type == "counter" and isinstance(point.value, int | float) and point.value < 0:
            msg = f"node_{point.name} {[*point.labels]}: a counter can't be {point.value!r}"
            raise PointError(msg)
    return points


def _series(point: Point) -> tuple[str, Labels]:
    return point.name, point.labels
