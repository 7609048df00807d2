"""Small groups of node_exporter: ``loadavg``, ``uname``, ``time``, ``stat`` and ``pressure``."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import LabelPairs, MetricType, Point

LOADS = tuple(Family(f"load{span}", f"Load average over {span} min", "", "gauge") for span in (1, 5, 15))
UNAME = Family("uname_info", "What the kernel calls itself and the host", "", "gauge")
NOW = Family("time", "The host's time, in Unix time", "seconds", "gauge")
ZONE = Family("time_zone_offset", "How far the host's time zone is ahead of UTC", "seconds", "gauge")
CLOCK = Family("time_clocksource_current_info", "The clock source in use", "", "gauge")
CLOCKS = Family("time_clocksource_available_info", "Clock sources that could be used", "", "gauge")
CLOCK_FOLDER = "devices/system/clocksource"
PRESSURES = {
    ("cpu", b"some"): Family("pressure_cpu_waiting", "Time that some waited for a CPU", "seconds", "counter"),
    ("io", b"some"): Family("pressure_io_waiting", "Time that some waited for I/O", "seconds", "counter"),
    ("io", b"full"): Family("pressure_io_stalled", "Time that all waited for I/O", "seconds", "counter"),
    ("memory", b"some"): Family("pressure_memory_waiting", "Time that some waited for memory", "seconds", "counter"),
    ("memory", b"full"): Family("pressure_memory_stalled", "Time that all waited for memory", "seconds", "counter"),
    ("irq", b"full"): Family("pressure_irq_stalled", "Time that all waited for interrupts", "seconds", "counter"),
}
RESOURCES = tuple(dict.fromkeys(resource for resource, _ in PRESSURES))


def _count(name: str, desc: str, type_: MetricType, unit: str = "") -> Family:
    return Family(name, desc, unit, type_)


STATS = {
    b"intr": _count("intr", "Interrupts that were served", "counter"),
    b"ctxt": _count("context_switches", "Context switches", "counter"),
    b"processes": _count("forks", "Processes and threads that were started", "counter"),
    b"btime": _count("boot_time", "When the host booted, in Unix time", "gauge", "seconds"),
    b"procs_running": _count("procs_running", "Processes that run or could run", "gauge"),
    b"procs_blocked": _count("procs_blocked", "Processes that wait for I/O", "gauge"),
}


class Loadavg:
    """Reads /proc/loadavg."""

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns the load over 1, 5 and 15 minutes.

        Raises:
            OSError: The file can't be read.
            ValueError: It has other content.
        """
        loads = files.proc("loadavg").split()[: len(LOADS)]
        return [family.at(float(load)) for family, load in zip(LOADS, loads, strict=True)]


class Uname:
    """Calls uname(2)."""

    def __init__(self) -> None:
        self._labels: LabelPairs = ()

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns an info.

        Raises:
            OSError: The domain's name can't be read.
        """
        own = os.uname()
        names = ("sysname", "release", "version", "machine", "nodename")
        # Linux adds the domain to uname(2), and Python leaves it out.
        domain = files.proc("sys/kernel/domainname").decode(errors="backslashreplace").rstrip("\n")
        labels = (*zip(names, (getattr(own, name) for name in names), strict=True), ("domainname", domain))
        if labels != self._labels:
            self._labels = labels
        return [UNAME.at(1, self._labels)]


class Time:
    """The host's time, its zone, and the clocks that the kernel knows."""

    def points(self, files: Files, now: float) -> list[Point]:
        """Returns all points of the group.

        Raises:
            OSError: A clock source can't be read.
        """
        zone = time.localtime(now)
        points = [NOW.at(now), ZONE.at(zone.tm_gmtoff, (("time_zone", zone.tm_zone),))]
        folders = [name for name in files.listed(CLOCK_FOLDER) if name.startswith("clocksource")]
        for device, folder in enumerate(folders):
            available = files.sys(f"{CLOCK_FOLDER}/{folder}/available_clocksource")
            current = files.sys(f"{CLOCK_FOLDER}/{folder}/current_clocksource")
            points += [CLOCKS.at(1, labels) for labels in _clocks(device, available)]
            points += [CLOCK.at(1, labels) for labels in _clocks(device, current)]
        return points


class Stat:
    """Reads the counts over all CPUs in /proc/stat."""

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns a point for each count.

        Raises:
            OSError: The file can't be read.
            ValueError: A count is no number.
        """
        points = []
        for line in files.proc("stat").split(b"\n"):
            name, _, counts = line.partition(b" ")
            if family := STATS.get(name):
                # The line of interrupts goes on with thousands of single counts.
                points.append(family.at(int(counts.partition(b" ")[0])))
        return points


class Pressure:
    """Reads /proc/pressure.

    https://docs.kernel.org/accounting/psi.html
    """

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns the time that was lost waiting for each resource.

        Raises:
            OSError: A file can't be read, or the kernel has none of them.
            ValueError: A time is no number.
        """
        points = [point for resource in RESOURCES for point in _pressure(files, resource)]
        if not points:
            msg = f"no data in {files.procfs}/pressure: requires Linux 4.20+ with PSI enabled (psi=1)"
            raise OSError(msg)
        return points


def _clocks(device: int, names: bytes) -> Iterator[LabelPairs]:
    for name in names.decode().split():
        yield (("device", str(device)), ("clocksource", name))


def _pressure(files: Files, resource: str) -> Iterator[Point]:
    with suppress(FileNotFoundError):  # older kernels have no file for interrupts
        for line in files.proc(f"pressure/{resource}").split(b"\n"):
            if family := PRESSURES.get((resource, line[:4])):
                yield family.at(int(line.rpartition(b"=")[2]) / 1_000_000)
