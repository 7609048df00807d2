"""The host's metrics under node_exporter's names, so that dashboards and alerts made for it work unchanged."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from attrs import frozen

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.log.changes import ChangeLog
from stator.points import Labels, Point, PointError, PointsAt

SUCCESS = Family("scrape_collector_success", "Whether a group of families could be collected")
DURATION = Family("scrape_collector_duration", "Time that a group of families took", "seconds")

Group: TypeAlias = Callable[[Files, float], Iterable[Point]]
"""Returns the points of the families that node_exporter collects together, from files and the time in Unix seconds."""


@frozen
class Host:
    """Reports what the kernel knows of the host, under node_exporter's names and with its labels, types and units.

    Each group can fail without the others. Its families depend on the kernel and the devices, and those of ``netstat``
    and ``vmstat`` on the chosen fields too.
    """

    groups: Mapping[str, Group]
    files: Callable[[], Files]  # for one scrape
    changes: ChangeLog

    def collect(self, now: float) -> PointsAt:
        """Reads each group's files; a group that fails has only its `node_scrape_collector_success`, which is 0."""
        files, points, problems = self.files(), [], {}
        for name, group in self.groups.items():
            begin = time.perf_counter()
            try:
                points += _checked(group(files, now))
            except Exception as error:  # noqa: BLE001 # another kernel may write anything: the other groups go on
                problems[name] = f"{type(error).__name__}: {error}"
            labels = (("collector", name),)
            points.append(DURATION.at(time.perf_counter() - begin, labels))
            points.append(SUCCESS.at(int(name not in problems), labels))
        self.changes.update(problems)
        return PointsAt("node", now, points=points)


def _checked(points: Iterable[Point]) -> list[Point]:
    """Returns a group's points; raises PointError for those that would make the whole host fail to be exposed."""
    checked: dict[tuple[str, str, Labels], Point] = {}
    for point in points:
        series = point.name, point.unit, point.labels
        if series in checked:
            msg = f"node_{point.name} {[*point.labels]} comes twice"
            raise PointError(msg)
        if point.type == "counter" and isinstance(point.value, int | float) and point.value < 0:
            msg = f"node_{point.name} {[*point.labels]}: a counter can't be {point.value!r}"
            raise PointError(msg)
        checked[series] = point
    return list(checked.values())
