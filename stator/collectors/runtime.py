"""The Python runtime of the process that answers: CPU, memory, threads, files, garbage collection."""

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

from attrs import frozen

from stator.entity import Labels, Point, PointsAt, Type

if TYPE_CHECKING:
    import psutil


@frozen
class Config:
    """The runtime collector has no settings."""

    def new(self, app_id: str, run_id: str) -> "Runtime":
        """A collector whose points tell the application and its run."""
        return Runtime(app_id, run_id, GcClock.started())


class GcClock:
    """Sums the time that this process spends in garbage collections.

    Attributes:
        seconds: Time so far, by generation.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds = [0.0] * len(gc.get_stats())
        self._clock = clock
        self._start = 0.0

    @classmethod
    def started(cls) -> "GcClock":
        """A clock that the garbage collector tells of each collection from now on."""
        clock = cls()
        gc.callbacks.append(clock)
        return clock

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Called by the garbage collector.

        https://docs.python.org/3/library/gc.html#gc.callbacks
        """
        if phase == "start":
            self._start = self._clock()
        else:
            self.seconds[info["generation"]] += self._clock() - self._start


class Runtime:
    """Collects what the Python runtime and the kernel know of this process.

    Args:
        app_id: Label that tells the application.
        run_id: Label that tells this run of it.
        gc_clock: Time spent in garbage collections.
    """

    def __init__(self, app_id: str, run_id: str, gc_clock: GcClock) -> None:
        self._identity: Labels = (("app_id", app_id), ("run_id", run_id))
        self._gc_clock = gc_clock
        self._process: psutil.Process | None = None

    def never_waits(self) -> bool:
        """What it reads is in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Reads the numbers of the process that calls.

        Raises:
            psutil.Error: The kernel would not tell.
        """
        points = [*self._of_system(), *self._of_interpreter()]
        return PointsAt("pyrt", now, (*self._identity, ("process_id", str(os.getpid()))), points)

    def _of_system(self) -> Iterator[Point]:
        process = self._current_process()
        # Where the kernel itself counts in microseconds, what psutil reads counts in hundredths of a second.
        cpu, memory = getrusage(RUSAGE_SELF), process.memory_info()
        yield _point("cpu_user", "CPU time spent running Python and native code", "seconds", "counter", cpu.ru_utime)
        yield _point("cpu_system", "CPU time spent in the kernel", "seconds", "counter", cpu.ru_stime)
        yield _point("mem_resident", "Memory that is in RAM", "bytes", "gauge", memory.rss)
        yield _point("mem_virtual", "Memory that is mapped", "bytes", "gauge", memory.vms)
        # A folder's length is a fraction of the cost of the whole status file, which psutil reads for it.
        yield _point("threads", "Count of live threads", "", "gauge", len(os.listdir("/proc/self/task")))  # noqa: PTH208
        yield _point("open_fds", "Count of open file descriptors", "", "gauge", process.num_fds())
        started = process.create_time()
        yield _point("start_time", "When the process started, in Unix time", "seconds", "gauge", started)

    def _of_interpreter(self) -> Iterator[Point]:
        stats = [(("generation", str(nth)), each) for nth, each in enumerate(gc.get_stats())]
        for generation, each in stats:
            number = each["collections"]
            yield _point("gc_collections", "Garbage collections", "", "counter", number, generation)
        for generation, each in stats:
            number = each["collected"]
            yield _point(
                "gc_collected_objects",
                "Objects freed by garbage collections",
                "",
                "counter",
                number,
                generation,
            )
        for generation, each in stats:
            number = each["uncollectable"]
            desc = "Objects that garbage collections could not free"
            yield _point("gc_uncollectable_objects", desc, "", "counter", number, generation)
        for (generation, _), seconds in zip(stats, self._gc_clock.seconds, strict=True):
            yield _point("gc_duration", "Time spent in garbage collections", "seconds", "counter", seconds, generation)
        blocks = sys.getallocatedblocks()
        yield _point("allocated_blocks", "Memory blocks that the interpreter holds", "", "gauge", blocks)
        import platform  # slow to import

        about = (("implementation", platform.python_implementation()), ("version", platform.python_version()))
        yield _point("info", "Python implementation and version", "", "info", 1, *about)

    def _current_process(self) -> "psutil.Process":
        """The process that calls; another than before where this object was inherited by a fork."""
        import psutil  # slow to import

        if self._process is None or self._process.pid != os.getpid():
            self._process = psutil.Process()
        return self._process


def _point(name: str, desc: str, unit: str, type_: Type, value: Any, *labels: tuple[str, str]) -> Point:
    return Point(name, desc, unit, type_, value, labels)
