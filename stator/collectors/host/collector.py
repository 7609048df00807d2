"""The host under node_exporter's names, so that dashboards and alerts that were made for it just work."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import frozen

from stator.collectors.host.cpu import Cpu
from stator.collectors.host.disk import Config as DiskstatsConfig
from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.collectors.host.filesystem import Config as FilesystemConfig
from stator.collectors.host.kernel import Loadavg, Pressure, Stat, Time, Uname
from stator.collectors.host.memory import Meminfo, VmstatConfig
from stator.collectors.host.network import Config as NetdevConfig
from stator.collectors.host.troubles import Log, Troubles
from stator.entity import Point, PointsAt
from stator.launch.settings import Check, part, setting

SUCCESS = Family("scrape_collector_success", "Whether a group of families could be collected", "", "gauge")
DURATION = Family("scrape_collector_duration", "Time that a group of families took", "seconds", "gauge")


class Group(Protocol):
    """Families that node_exporter collects together, and that fail together."""

    def points(self, files: Files, now: float) -> list[Point]:
        """All of the group's points as they are now, in Unix seconds; raises on failure."""


# Groups that have nothing to be told.
PLAIN: dict[str, Callable[[], Group]] = {
    "cpu": Cpu,
    "loadavg": Loadavg,
    "meminfo": Meminfo,
    "pressure": Pressure,
    "stat": Stat,
    "time": Time,
    "uname": Uname,
}
GROUPS = tuple(sorted({*PLAIN, "diskstats", "filesystem", "netdev", "vmstat"}))


@frozen
class Config:
    """What the host collector can be told; the settings are named as node_exporter's flags."""

    collectors: tuple[str, ...] = setting(
        GROUPS,
        desc="node_exporter's collectors that host stands for",
        check=Check(f"names out of {', '.join(GROUPS)}", lambda names: set(names) <= set(GROUPS)),
    )
    procfs: str = setting("/proc", desc="where the host's /proc is, ex: /host/proc")
    sysfs: str = setting("/sys", desc="where the host's /sys is")
    rootfs: str = setting("/", desc="where the host's / is")
    udev: str = setting("/run/udev/data", desc="where the host's udev database is")
    diskstats: DiskstatsConfig = part(DiskstatsConfig)
    filesystem: FilesystemConfig = part(FilesystemConfig)
    netdev: NetdevConfig = part(NetdevConfig)
    vmstat: VmstatConfig = part(VmstatConfig)

    def new(self, log: Log) -> "Host":
        """A collector of these groups, each once, that tells a log what it can't read."""
        groups = {name: self._group(name, log) for name in self.collectors}
        return Host(groups, lambda: Files(self.procfs, self.sysfs), Troubles(log, "group"))

    def _group(self, name: str, log: Log) -> Group:
        match name:
            case "diskstats":
                return self.diskstats.new(self.udev)
            case "filesystem":
                return self.filesystem.new(self.rootfs, log)
            case "netdev":
                return self.netdev.new()
            case "vmstat":
                return self.vmstat.new()
        return PLAIN[name]()


class Host:
    """Collects groups of families, each of which can fail without the others.

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
        troubles: Troubles,
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
                points += group.points(files, now)
            except Exception as error:  # noqa: BLE001 # who knows what other kernels say: the rest is served
                wrong[name] = f"{type(error).__name__}: {error}"
            labels = self._labels[name]
            points.append(DURATION.at(self._clock() - begin, labels))
            points.append(SUCCESS.at(int(name not in wrong), labels))
        self._troubles.update(wrong)
        return PointsAt("node", now, points=points)
