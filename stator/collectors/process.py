"""The families that Prometheus' client libraries report for a process, summed over the whole service."""

from collections.abc import Sequence
from contextlib import suppress
from resource import RLIM_INFINITY, RLIMIT_NOFILE, prlimit

from attrs import define, field, frozen

from stator.points import CollectorContext, Point, PointsAt
from stator.processes.procfs import PAGE, TICKS
from stator.processes.service import Process, ServiceProcesses

# prometheus_client reports these too: https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics
FAMILIES = (
    *("process_cpu_seconds", "process_open_fds", "process_max_fds", "process_virtual_memory_bytes"),
    *("process_resident_memory_bytes", "process_start_time_seconds"),
)
# Collectors that expose these of the service, or of the program that is wrapped.
EXPOSED_BY = frozenset({"child", "process"})


@frozen(eq=False, repr=False)
class ProcessConfig:
    """The `process` collector has no settings."""

    def build(self, context: CollectorContext) -> "ServiceProcess":
        """Returns a collector of all processes of the service."""
        return ServiceProcess(context.processes)


@define(eq=False, repr=False)
class ServiceProcess:
    """Reports the standard ``process_*`` families, summed over all processes of the service.

    The CPU time of workers that have ended stays in the sum.

    The collector ``prometheus_client`` has families of the same names, which describe a single process: beside this
    collector it drops them.
    """

    processes: ServiceProcesses
    _booted: float = field(default=0.0, init=False)

    def is_nonblocking(self) -> bool:
        """Returns True: it reads only files of the kernel that are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Reads the numbers of all processes, whichever of them calls."""
        import psutil

        members = self.processes.stable_snapshot()
        stats = [each.stat for each in members]
        cpu = sum(stat.user + stat.system + stat.reaped for stat in stats) / TICKS
        resident = sum(stat.resident for stat in stats) * PAGE
        virtual = sum(stat.virtual for stat in stats)
        # Read once: the kernel takes it from the clock, which may be set.
        self._booted = self._booted or psutil.boot_time()
        started = self._booted + min(stat.started for stat in stats) / TICKS
        points = [
            Point("cpu", "CPU time spent by all processes, those that have ended included", cpu, "counter", "seconds"),
            Point("open_fds", "Count of open file descriptors", sum(each.fds for each in members)),
            Point("max_fds", "Most file descriptors that may be open", _max_fds(members)),
            Point("virtual_memory", "Memory that is mapped", virtual, unit="bytes"),
            Point("resident_memory", "Memory in RAM; what processes share is counted for each", resident, unit="bytes"),
            Point("start_time", "When the service started, in Unix time", started, unit="seconds"),
        ]
        return PointsAt("process", now, points=points)


def _max_fds(members: Sequence[Process]) -> float:
    limits = []
    for each in members:
        with suppress(ProcessLookupError, PermissionError):  # it has ended since, or is another user's
            limits.append(prlimit(each.pid, RLIMIT_NOFILE)[0])
    return float("inf") if RLIM_INFINITY in limits else sum(limits)
