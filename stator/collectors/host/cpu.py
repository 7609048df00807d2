"""Time, throttling and state of each CPU: node_exporter's group ``cpu``."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import LabelPairs, Point
from stator.processes.procfs import TICKS

# Columns of /proc/stat; the two that follow are the time of guests, which user and nice include.
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
COLUMNS = len(MODES) + 2
IDLE = MODES.index("idle")
# A CPU whose idle time falls by more seconds was offline, and counts from zero again.
RESET = 3
FOLDER = "devices/system/cpu"

# https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat
TIME = Family("cpu", "Time that a CPU spent in a mode", "seconds", "counter")
GUEST_TIME = Family("cpu_guest", "Time that a CPU spent in guests, by their mode", "seconds", "counter")
CORE_THROTTLES = Family("cpu_core_throttles", "Times that a core was throttled", "", "counter")
PACKAGE_THROTTLES = Family("cpu_package_throttles", "Times that a package was throttled", "", "counter")
ISOLATED = Family("cpu_isolated", "CPUs that are kept out of scheduling")
ONLINE = Family("cpu_online", "Whether a CPU is online")


class Cpu:
    """Reads /proc/stat and /sys/devices/system/cpu."""

    def __init__(self) -> None:
        self._last: dict[str, list[int]] = {}

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns all points of the group."""
        times = dict(_times(files.proc("stat")))
        if not times:
            msg = f"no CPU in {files.procfs}/stat"
            raise ValueError(msg)
        self._last = {cpu: self._risen(cpu, ticks) for cpu, ticks in times.items()}
        points: list[Point] = []
        for cpu, ticks in self._last.items():
            labels = [(("cpu", cpu), ("mode", mode)) for mode in MODES]
            seconds = [each / TICKS for each in ticks]
            points += map(TIME.at, seconds, labels)
            points += map(GUEST_TIME.at, seconds[len(MODES) :], labels)
        points += _throttles(files, times)
        points += [ISOLATED.at(1, (("cpu", cpu),)) for cpu in _isolated(files)]
        points += _online(files)
        return points

    def _risen(self, cpu: str, ticks: list[int]) -> list[int]:
        """Returns ticks that never fall, as the kernel's own sometimes do by a little."""
        last = self._last.get(cpu)
        if last is None or last[IDLE] - ticks[IDLE] >= RESET * TICKS:
            return ticks
        return list(map(max, ticks, last))


def _times(stat: bytes) -> Iterator[tuple[str, list[int]]]:
    """Yields each CPU's number and its ticks by mode; modes that an older kernel lacks are 0."""
    for line in stat.split(b"\n"):
        if not line.startswith(b"cpu"):
            return
        name, *ticks = line.split()
        if cpu := name[3:]:
            known = list(map(int, ticks[:COLUMNS]))
            yield cpu.decode(), known + [0] * (COLUMNS - len(known))


def _throttles(files: Files, cpus: Iterable[str]) -> Iterator[Point]:
    """Yields the counts of each core and package, from the first of its CPUs that has them."""
    seen: set[tuple[Family, LabelPairs]] = set()
    for cpu in cpus:
        folder = f"{FOLDER}/cpu{cpu}"
        if not files.has(f"{folder}/thermal_throttle"):
            continue
        with suppress(OSError):  # a kernel without topology, or the CPU has been removed since
            package = (("package", files.sys(f"{folder}/topology/physical_package_id").strip().decode()),)
            core = (*package, ("core", files.sys(f"{folder}/topology/core_id").strip().decode()))
            for family, name, labels in (
                (CORE_THROTTLES, "core_throttle_count", core),
                (PACKAGE_THROTTLES, "package_throttle_count", package),
            ):
                path = f"{folder}/thermal_throttle/{name}"
                if (family, labels) not in seen and files.has(path):
                    yield family.at(int(files.sys(path)), labels)
                    seen.add((family, labels))


def _isolated(files: Files) -> Iterator[str]:
    """Yields the numbers of isolated CPUs, out of a list such as ``2,4-7``."""
    try:
        ranges = files.sys(f"{FOLDER}/isolated").strip().decode()
    except OSError:  # older than Linux 4.2
        return
    for each in filter(None, ranges.split(",")):
        first, _, last = each.partition("-")
        yield from map(str, range(int(first), int(last or first) + 1))


def _online(files: Files) -> Iterator[Point]:
    """Yields the state of each CPU; like node_exporter, only where the kernel can switch all of them off."""
    if not files.has(f"{FOLDER}/cpu0/online"):
        return
    for name in files.listed(FOLDER):
        if name.startswith("cpu") and name[3:].isdigit():
            with suppress(OSError):  # it has been removed since
                yield ONLINE.at(int(files.sys(f"{FOLDER}/{name}/online")), (("cpu", name[3:]),))
