"""Small groups of node_exporter: ``loadavg``, ``uname``, ``time``, ``stat``, ``filefd`` and ``pressure``."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import Point

LOADS = tuple(Family(f"load{span}", f"Load average over {span} min") for span in (1, 5, 15))
UNAME = Family("uname_info", "What the kernel calls itself and the host")
NOW = Family("time", "The host's time, in Unix time", "seconds")
ZONE = Family("time_zone_offset", "How far the host's time zone is ahead of UTC", "seconds")
CLOCK = Family("time_clocksource_current_info", "The clock source in use")
CLOCKS = Family("time_clocksource_available_info", "Clock sources that could be used")
CLOCK_FOLDER = "devices/system/clocksource"
FILES = Family("filefd_allocated", "Open files of all processes")
MOST_FILES = Family("filefd_maximum", "Files that all processes together may have open")
PRESSURES = {
    ("cpu", b"some"): Family("pressure_cpu_waiting", "Time that some waited for a CPU", "seconds", "counter"),
    ("io", b"some"): Family("pressure_io_waiting", "Time that some waited for I/O", "seconds", "counter"),
    ("io", b"full"): Family("pressure_io_stalled", "Time that all waited for I/O", "seconds", "counter"),
    ("memory", b"some"): Family("pressure_memory_waiting", "Time that some waited for memory", "seconds", "counter"),
    ("memory", b"full"): Family("pressure_memory_stalled", "Time that all waited for memory", "seconds", "counter"),
    ("irq", b"full"): Family("pressure_irq_stalled", "Time that all waited for interrupts", "seconds", "counter"),
}
STATS = {
    b"intr": Family("intr", "Interrupts that were served", "", "counter"),
    b"ctxt": Family("context_switches", "Context switches", "", "counter"),
    b"processes": Family("forks", "Processes and threads that were started", "", "counter"),
    b"btime": Family("boot_time", "When the host booted, in Unix time", "seconds"),
    b"procs_running": Family("procs_running", "Processes that run or could run"),
    b"procs_blocked": Family("procs_blocked", "Processes that wait for I/O"),
}


def loadavg(files: Files, _now: float) -> list[Point]:
    """Returns the load over 1, 5 and 15 minutes, from /proc/loadavg."""
    loads = files.proc("loadavg").split()[: len(LOADS)]
    return [family.at(float(load)) for family, load in zip(LOADS, loads, strict=True)]


def uname(files: Files, _now: float) -> list[Point]:
    """Returns what the kernel calls itself and the host, of which Python's `os.uname` leaves out the domain."""
    own = os.uname()
    names = ("sysname", "release", "version", "machine", "nodename")
    domain = files.proc("sys/kernel/domainname").decode(errors="backslashreplace").rstrip("\n")
    return [UNAME.at(1, (*((name, getattr(own, name)) for name in names), ("domainname", domain)))]


def clocks(files: Files, now: float) -> Iterator[Point]:
    """Yields the host's time, its zone, and the clocks that the kernel knows."""
    zone = time.localtime(now)
    yield NOW.at(now)
    yield ZONE.at(zone.tm_gmtoff, (("time_zone", zone.tm_zone),))
    folders = [name for name in files.listed(CLOCK_FOLDER) if name.startswith("clocksource")]
    for device, folder in enumerate(folders):
        for family, file in ((CLOCKS, "available_clocksource"), (CLOCK, "current_clocksource")):
            for clock in files.sys(f"{CLOCK_FOLDER}/{folder}/{file}").decode().split():
                yield family.at(1, (("device", str(device)), ("clocksource", clock)))


def stat(files: Files, _now: float) -> Iterator[Point]:
    """Yields the counts over all CPUs in /proc/stat."""
    for line in files.proc("stat").split(b"\n"):
        name, _, counts = line.partition(b" ")
        if family := STATS.get(name):
            # The line of interrupts goes on with thousands of single counts.
            yield family.at(int(counts.partition(b" ")[0]))


def filefd(files: Files, _now: float) -> list[Point]:
    """Returns how many files are open: https://docs.kernel.org/admin-guide/sysctl/fs.html#file-max-file-nr."""
    allocated, _, maximum = map(int, files.proc("sys/fs/file-nr").split())
    return [FILES.at(allocated), MOST_FILES.at(maximum)]


def pressure(files: Files, _now: float) -> list[Point]:
    """Returns the time that was lost waiting for each resource: https://docs.kernel.org/accounting/psi.html."""
    points: list[Point] = []
    for (resource, who), family in PRESSURES.items():
        with suppress(FileNotFoundError):  # older kernels have no file for interrupts
            lines = files.proc(f"pressure/{resource}").split(b"\n")
            points += [family.at(int(line.rpartition(b"=")[2]) / 1_000_000) for line in lines if line[:4] == who]
    if not points:
        msg = f"no data in {files.procfs}/pressure: requires Linux 4.20+ with PSI enabled (psi=1)"
        raise OSError(msg)
    return points
