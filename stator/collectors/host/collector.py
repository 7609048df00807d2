"""The host's metrics under node_exporter's names, so that dashboards and alerts made for it work unchanged."""

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
        """Returns the group's current points; raises on failure. The time is in Unix seconds."""


class Host:
    """Reports what the kernel knows of the host, under node_exporter's names and with its labels, types and units.

    Each group can fail without the others. Its families depend on the kernel and the devices, and those of ``vmstat``
    on the chosen fields too.

    Args:
        groups: The groups by node_exporter's names.
        files: Returns the files for one scrape.
        changes: Logs which groups fail.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        files: Callable[[], Files],
        changes: ChangeLog,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._groups, self._files, self._changes, self._clock = groups, files, changes, clock
        self._labels = {name: (("collector", name),) for name in groups}

    def collect(self, now: float) -> PointsAt:
        """Reads each group's files; a group that fails has only its `node_scrape_collector_success`, which is 0."""
        files, points, problems = self._files(), [], {}
        for name, group in self._groups.items():
            begin = self._clock()
            try:
                points += _checked(group.points(files, now))
            except Exception as error:  # noqa: BLE001 # another kernel may write anything: the other groups go on
                problems[name] = f"{type(error).__name__}: {error}"
            labels = self._labels[name]
            points.append(DURATION.at(self._clock() - begin, labels))
            points.append(SUCCESS.at(int(name not in problems), labels))
        self._changes.update(problems)
        return PointsAt("node", now, points=points)


def _checked(points: list[Point]) -> list[Point]:
    """Returns a group's points. Points that can't be exposed would make the whole host fail, and not their group alone.

    Raises:
        PointError: Two have the same series, or a counter is below zero.
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
