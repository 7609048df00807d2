"""The Python runtime of each of the service's processes: CPU, memory, threads, files, garbage collection."""

import platform
from collections.abc import Callable, Iterator

from attrs import define, frozen

from stator.points import CollectorContext, LabelPairs, MetricType, Point, PointsAt
from stator.processes.procfs import PAGE, TICKS
from stator.processes.service import Process, ServiceProcesses

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


@frozen(eq=False, repr=False)
class RuntimeConfig:
    """The `runtime` collector has no settings."""

    def build(self, context: CollectorContext) -> "Runtime":
        """Returns a collector whose points are labelled with the application and its run."""
        return Runtime(context.app_id, context.run_id, context.processes)


@define(eq=False, repr=False)
class Runtime:
    """Reports what the Python runtime and the kernel know of each process of the service.

    Whichever process answers, it reports all of them, except those that have ended. The label ``role`` is ``main``,
    ``arbiter`` or ``worker``; a worker's number is in ``worker``, and its replacement has the same number.
    """

    app_id: str
    run_id: str
    processes: ServiceProcesses
    _booted: float = 0.0  # the host, in Unix time; 0 until it is first read

    def is_nonblocking(self) -> bool:
        """Returns True: it reads only files of the kernel that are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Reads the numbers of all processes, whichever of them calls."""
        import psutil

        self._booted = self._booted or psutil.boot_time()
        alive = [each for each in self.processes.snapshot() if each.stat.is_alive]
        points = [point for each in alive for point in _points(each, self._booted + each.stat.started / TICKS)]
        return PointsAt("pyrt", now, (("app_id", self.app_id), ("run_id", self.run_id)), points)


def _points(process: Process, started: float) -> Iterator[Point]:
    labels: LabelPairs = (("process_id", str(process.pid)),)
    if process.role:
        labels += (("role", process.role),)
    if process.worker:
        labels += (("worker", str(process.worker)),)
    for name, desc, unit, type_, value in KERNEL:
        yield Point(name, desc, value(process), type_, unit, labels)
    yield Point("start_time", "When the process started, in Unix time", started, unit="seconds", labels=labels)
    for nth, generation in enumerate(process.generations):
        for (name, desc, unit), number in zip(COLLECTIONS, generation, strict=True):
            yield Point(name, desc, number, "counter", unit, (*labels, ("generation", str(nth))))
    if process.blocks:
        yield Point("allocated_blocks", "Memory blocks that the interpreter holds", process.blocks, labels=labels)
    about = (("implementation", platform.python_implementation()), ("version", platform.python_version()))
    yield Point("info", "Python implementation and version", 1, type="info", labels=(*labels, *about))
