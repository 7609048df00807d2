"""Time, throttling and state of each CPU: node_exporter's group ``cpu``.

https://docs.kernel.org/filesystems/proc.html#miscellaneous-kernel-statistics-in-proc-stat
"""

import os
from collections.abc import Iterator
from contextlib import suppress

from stator.collectors.host.family import Family
from stator.collectors.host.files import Files
from stator.points import LabelPairs, Point

# Columns of /proc/stat; the two that follow are the time of guests, which user and nice include.
MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
GUEST_MODES = ("user", "nice")
IDLE = MODES.index("idle")
# A CPU whose idle time falls by more seconds was offline, and counts from zero again.
RESET = 3
FOLDER = "devices/system/cpu"

TIME = Family("cpu", "Time that a CPU spent in a mode", "seconds", "counter")
GUEST_TIME = Family("cpu_guest", "Time that a CPU spent in guests, by their mode", "seconds", "counter")
CORE_THROTTLES = Family("cpu_core_throttles", "Times that a core was throttled", "", "counter")
PACKAGE_THROTTLES = Family("cpu_package_throttles", "Times that a package was throttled", "", "counter")
ISOLATED = Family("cpu_isolated", "CPUs that are kept out of scheduling", "", "gauge")
ONLINE = Family("cpu_online", "Whether a CPU is online", "", "gauge")

Throttle = tuple[Family, str, LabelPairs]
"""A family, the file that has its number, and its labels."""


class Cpu:
    """Reads /proc/stat and /sys/devices/system/cpu."""

    def __init__(self) -> None:
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._last: dict[bytes, list[int]] = {}
        self._labels: dict[bytes, tuple[LabelPairs, ...]] = {}
        self._throttles: list[Throttle] = []

    def points(self, files: Files, _now: float) -> list[Point]:
        """Returns all points of the group.

        Raises:
            OSError: /proc/stat can't be read.
            ValueError: It has no CPU, or something else in place of a number.
        """
        times = dict(_times(files.proc("stat")))
        if not times:
            msg = f"no CPU in {files.procfs}/stat"
            raise ValueError(msg)
        if times.keys() != self._labels.keys():
            self._labels = {cpu: _labels(cpu.decode()) for cpu in times}
            self._throttles = list(_throttles(files, [cpu.decode() for cpu in times]))
        self._last = {cpu: self._risen(cpu, ticks) for cpu, ticks in times.items()}
        points: list[Point] = []
        for cpu, ticks in self._last.items():
            seconds = [each / self._ticks for each in ticks]
            labels = self._labels[cpu]
            points += map(TIME.at, seconds[: len(MODES)], labels)
            points += map(GUEST_TIME.at, seconds[len(MODES) :], labels)
        points += self._throttled(files)
        points += [ISOLATED.at(1, (("cpu", cpu),)) for cpu in _isolated(files)]
        points += _online(files)
        return points

    def _risen(self, cpu: bytes, ticks: list[int]) -> list[int]:
        """Returns ticks that never fall, as the kernel's own sometimes do by a little."""
        last = self._last.get(cpu)
        if last is None or last[IDLE] - ticks[IDLE] >= RESET * self._ticks:
            return ticks
        return list(map(max, ticks, last))

    def _throttled(self, files: Files) -> Iterator[Point]:
        for family, path, labels in self._throttles:
            with suppress(OSError):  # the CPU has been removed since
                yield family.at(int(files.sys(path)), labels)


def _times(stat: bytes) -> Iterator[tuple[bytes, list[int]]]:
    """Yields each CPU's number and its ticks by mode; modes that an older kernel lacks are 0."""
    for line in stat.split(b"\n"):
        if not line.startswith(b"cpu"):
            return
        name, *ticks = line.split()
        if cpu := name[3:]:
            known = list(map(int, ticks[: len(MODES) + len(GUEST_MODES)]))
            yield cpu, known + [0] * (len(MODES) + len(GUEST_MODES) - len(known))


def _labels(cpu: str) -> tuple[LabelPairs, ...]:
    """Returns the labels of each mode; the first ones are those of guests' modes."""
    return tuple((("cpu", cpu), ("mode", mode)) for mode in MODES)


def _throttles(files: Files, cpus: list[str]) -> Iterator[Throttle]:
    """Yields the counts of each core and package, from the first of its CPUs that has them."""
    seen: set[tuple[Family, LabelPairs]] = set()
    for cpu in cpus:
        folder = f"{FOLDER}/cpu{cpu}"
        try:
            package = files.sys(f"{folder}/topology/physical_package_id").strip().decode()
            core = files.sys(f"{folder}/topology/core_id").strip().decode()
        except OSError:  # a kernel without topology
            continue
        of_package = (("package", package),)
        for family, name, labels in (
            (CORE_THROTTLES, "core_throttle_count", (*of_package, ("core", core))),
            (PACKAGE_THROTTLES, "package_throttle_count", of_package),
        ):
            path = f"{folder}/thermal_throttle/{name}"
            if (family, labels) not in seen and files.has(path):
                seen.add((family, labels))
                yield family, path, labels


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
