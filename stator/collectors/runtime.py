"""The Python runtime of each of the service's processes: CPU, memory, threads, files, garbage collection."""

import os
import platform
from typing import TypeAlias

from attrs import frozen

from stator.points import LabelPairs, Labels, MetricType, Point, PointsAt
from stator.processes.service import Process, ServiceProcesses

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@frozen
class RuntimeConfig:
    """The runtime collector has no settings."""

    def build(self, app_id: str, run_id: str, processes: ServiceProcesses) -> "Runtime":
        """A collector whose points tell the application and its run."""
        return Runtime(app_id, run_id, processes)


class Runtime:
    """Collects what the Python runtime and the kernel know of each process of the service.

    Whichever of them is asked, it tells of all. The label ``role`` is ``main``, ``arbiter`` or ``worker``; a worker's
    number is in ``worker``, and the one that replaces it has the same. Those that have ended are no longer told.

    Args:
        app_id: Label that tells the application.
        run_id: Label that tells this run of it.
        processes: The service's processes.
    """

    def __init__(self, app_id: str, run_id: str, processes: ServiceProcesses) -> None:
        self._identity: Labels = (("app_id", app_id), ("run_id", run_id))
        self._processes = processes
        self._known: dict[tuple[int, int], _Known] = {}
        self._about = (("implementation", platform.python_implementation()), ("version", platform.python_version()))

    def is_nonblocking(self) -> bool:
        """What it reads is in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Reads the numbers of all processes, whichever of them calls.

        Raises:
            OSError: The kernel would not tell.
        """
        alive = [each for each in self._processes.snapshot() if each.stat.is_alive]
        known = {(each.pid, each.stat.started): each for each in alive}
        self._known = {key: self._known.get(key) or _Known.of(each) for key, each in known.items()}
        told = [(each, self._known[key]) for key, each in known.items()]
        return PointsAt("pyrt", now, self._identity, _of_system(told) + _of_interpreter(told, self._about))


@frozen
class _Known:
    """What stays the same as long as a process lives: its labels, alone and with a generation, and its start."""

    labels: Labels
    generations: tuple[Labels, ...]
    started: float

    @classmethod
    def of(cls, process: Process) -> "_Known":
        import psutil  # slow to import

        labels: LabelPairs = (("process_id", str(process.pid)),)
        if process.role:
            labels += (("role", process.role),)
        if process.worker:
            labels += (("worker", str(process.worker)),)
        generations = tuple((*labels, ("generation", str(nth))) for nth in range(len(process.generations)))
        return cls(labels, generations, psutil.boot_time() + process.stat.started / TICKS)


Told: TypeAlias = list[tuple[Process, _Known]]


def _of_system(told: Told) -> list[Point]:
    families: tuple[tuple[str, str, str, MetricType, list[float]], ...] = (
        (
            "cpu_user",
            "CPU time spent running Python and native code",
            "seconds",
            "counter",
            [each.stat.user / TICKS for each, _ in told],
        ),
        (
            "cpu_system",
            "CPU time spent in the kernel",
            "seconds",
            "counter",
            [each.stat.system / TICKS for each, _ in told],
        ),
        ("mem_resident", "Memory that is in RAM", "bytes", "gauge", [each.stat.resident * PAGE for each, _ in told]),
        ("mem_virtual", "Memory that is mapped", "bytes", "gauge", [each.stat.virtual for each, _ in told]),
        ("threads", "Count of live threads", "", "gauge", [each.stat.threads for each, _ in told]),
        ("open_fds", "Count of open file descriptors", "", "gauge", [each.fds for each, _ in told]),
        (
            "start_time",
            "When the process started, in Unix time",
            "seconds",
            "gauge",
            [known.started for _, known in told],
        ),
    )
    return [
        Point(name, desc, value, type=type_, unit=unit, labels=known.labels)
        for name, desc, unit, type_, values in families
        for value, (_, known) in zip(values, told, strict=True)
    ]


def _of_interpreter(told: Told, about: Labels) -> list[Point]:
    families = (
        ("gc_collections", "Garbage collections", ""),
        ("gc_collected_objects", "Objects freed by garbage collections", ""),
        ("gc_uncollectable_objects", "Objects that garbage collections could not free", ""),
        ("gc_duration", "Time spent in garbage collections", "seconds"),
    )
    points = [
        Point(name, desc, generation[nth], type="counter", unit=unit, labels=labels)
        for nth, (name, desc, unit) in enumerate(families)
        for process, known in told
        for generation, labels in zip(process.generations, known.generations, strict=True)
    ]
    desc = "Memory blocks that the interpreter holds"
    points += [
        Point("allocated_blocks", desc, process.blocks, labels=known.labels)
        for process, known in told
        if process.blocks
    ]
    desc = "Python implementation and version"
    points += [Point("info", desc, 1, type="info", labels=(*known.labels, *about)) for _, known in told]
    return points
