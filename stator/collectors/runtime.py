"""The Python runtime of each of the service's processes: CPU, memory, threads, files, garbage collection."""

import os
import platform
from collections.abc import Callable

from attrs import frozen

from stator.points import CollectorContext, LabelPairs, MetricType, Point, PointsAt
from stator.processes.service import Process, ServiceProcesses

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Families of the kernel: name, description, unit, type, and how a process gives the value.
KERNEL: tuple[tuple[str, str, str, MetricType, Callable[[Process], float]], ...] = (
    ("cpu_user", "CPU time spent running Python and native code", "seconds", "counter", lambda p: p.stat.user / TICKS),
    ("cpu_system", "CPU time spent in the kernel", "seconds", "counter", lambda p: p.stat.system / TICKS),
    ("mem_resident", "Memory that is in RAM", "bytes", "gauge", lambda p: p.stat.resident * PAGE),
    ("mem_virtual", "Memory that is mapped", "bytes", "gauge", lambda p: p.stat.virtual),
    ("threads", "Count of live threads", "", "gauge", lambda p: p.stat.threads),
    ("open_fds", "Count of open file descriptors", "", "gauge", lambda p: p.fds),
)
# Families of the garbage collector, in the order of the counts of a generation: name, description, unit.
COLLECTIONS = (
    ("gc_collections", "Garbage collections", ""),
    ("gc_collected_objects", "Objects freed by garbage collections", ""),
    ("gc_uncollectable_objects", "Objects that garbage collections could not free", ""),
    ("gc_duration", "Time spent in garbage collections", "seconds"),
)


@frozen
class RuntimeConfig:
    """The `runtime` collector has no settings."""

    def build(self, context: CollectorContext) -> "Runtime":
        """Returns a collector whose points are labelled with the application and its run."""
        return Runtime(context.app_id, context.run_id, context.processes)


class Runtime:
    """Reports what the Python runtime and the kernel know of each process of the service.

    Whichever process answers, it reports all of them, except those that have ended. The label ``role`` is ``main``,
    ``arbiter`` or ``worker``; a worker's number is in ``worker``, and its replacement has the same number.

    Args:
        app_id: Label that names the application.
        run_id: Label that names this run of it.
        processes: The service's processes.
    """

    def __init__(self, app_id: str, run_id: str, processes: ServiceProcesses) -> None:
        self._identity: LabelPairs = (("app_id", app_id), ("run_id", run_id))
        self._processes = processes
        self._known: dict[tuple[int, int], _Known] = {}
        self._about = (("implementation", platform.python_implementation()), ("version", platform.python_version()))

    def is_nonblocking(self) -> bool:
        """Returns True: it reads only files of the kernel that are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Reads the numbers of all processes, whichever of them calls.

        Raises:
            OSError: The kernel denies them.
        """
        alive = [each for each in self._processes.snapshot() if each.stat.is_alive]
        keys = {(each.pid, each.stat.started): each for each in alive}
        self._known = {key: self._known.get(key) or _Known.of(each) for key, each in keys.items()}
        processes = [(each, self._known[key]) for key, each in keys.items()]
        return PointsAt("pyrt", now, self._identity, _of_kernel(processes) + _of_interpreter(processes, self._about))


@frozen
class _Known:
    """What stays the same while a process lives: kept, since labels that are the same object format twice as fast.

    Attributes:
        labels: The labels of its points.
        generations: The same with each generation of the garbage collector.
        started: When it started, in Unix time.
    """

    labels: LabelPairs
    generations: tuple[LabelPairs, ...]
    started: float

    @classmethod
    def of(cls, process: Process) -> "_Known":
        import psutil

        labels: LabelPairs = (("process_id", str(process.pid)),)
        if process.role:
            labels += (("role", process.role),)
        if process.worker:
            labels += (("worker", str(process.worker)),)
        generations = tuple((*labels, ("generation", str(nth))) for nth in range(len(process.generations)))
        return cls(labels, generations, psutil.boot_time() + process.stat.started / TICKS)


def _of_kernel(processes: list[tuple[Process, _Known]]) -> list[Point]:
    points = [
        Point(name, desc, value(each), type=type_, unit=unit, labels=known.labels)
        for name, desc, unit, type_, value in KERNEL
        for each, known in processes
    ]
    desc = "When the process started, in Unix time"
    points += [Point("start_time", desc, known.started, unit="seconds", labels=known.labels) for _, known in processes]
    return points


def _of_interpreter(processes: list[tuple[Process, _Known]], about: LabelPairs) -> list[Point]:
    points = [
        Point(name, desc, generation[nth], type="counter", unit=unit, labels=labels)
        for nth, (name, desc, unit) in enumerate(COLLECTIONS)
        for process, known in processes
        for generation, labels in zip(process.generations, known.generations, strict=True)
    ]
    desc = "Memory blocks that the interpreter holds"
    points += [
        Point("allocated_blocks", desc, process.blocks, labels=known.labels)
        for process, known in processes
        if process.blocks
    ]
    desc = "Python implementation and version"
    points += [Point("info", desc, 1, type="info", labels=(*known.labels, *about)) for _, known in processes]
    return points
