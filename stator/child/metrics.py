"""The metrics of a wrapped program and of all processes that it has started."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, prlimit, struct_rusage

import psutil
from attrs import define, field

from stator.points import Point, PointsAt
from stator.processes.procfs import PAGE, TICKS, Stat, open_files
from stator.processes.shared_table import SharedTable

CGROUPS = Path("/sys/fs/cgroup")
READ_AGAIN = 5  # times at most, while processes end between two readings


@define
class Tree:
    """Sums over the processes of the program."""

    cpu: float = 0.0  # seconds, those of reaped processes included
    reaped: int = 0  # ticks of CPU of processes that others of the tree have reaped
    resident: int = 0  # bytes
    virtual: int = 0  # bytes
    threads: int = 0
    files: int = 0
    processes: int = 0
    most_files: float = 0.0
    read: int = 0  # bytes
    written: int = 0  # bytes
    voluntary: int = 0  # context switches
    involuntary: int = 0

    def add(self, process: psutil.Process) -> None:
        """Adds a process; raises OSError or psutil.Error if it is gone."""
        stat = Stat.of(process.pid)
        self.cpu += (stat.user + stat.system + stat.reaped) / TICKS
        self.reaped += stat.reaped
        if not stat.is_alive:
            return
        self.processes += 1
        self.threads += stat.threads
        self.resident += stat.resident * PAGE
        self.virtual += stat.virtual
        self.files += open_files(process.pid)
        # Of another user's process we may not know.
        with suppress(PermissionError, psutil.AccessDenied):
            limit = prlimit(process.pid, RLIMIT_NOFILE)[0]
            self.most_files += float("inf") if limit == RLIM_INFINITY else limit
            switches = process.num_ctx_switches()
            self.voluntary, self.involuntary = (
                self.voluntary + switches.voluntary,
                self.involuntary + switches.involuntary,
            )
            io = process.io_counters()
            self.read, self.written = self.read + io.read_bytes, self.written + io.write_bytes


@define(eq=False)
class ChildMetrics:
    """A collector that any process of the service can answer with; the main process writes what it alone knows."""

    _command: str
    # The main process, the program, the server, when the program started, and CPU seconds and context switches of what
    # the main process reaped.
    _table: SharedTable = field(factory=lambda: SharedTable(1, 7), init=False)
    _own: list[float] = field(factory=lambda: [0.0] * 7, init=False)
    _highest: dict[str, float] = field(factory=dict, init=False)

    def started(self, pid: int, server: int) -> None:
        """The main process has started the program."""
        # Read once: the kernel takes it from the clock, which may be set.
        self._own[:4] = os.getpid(), pid, server, psutil.Process(pid).create_time()
        self._table.write(0, self._own)

    def reaped(self, usage: struct_rusage) -> None:
        """The main process has reaped a process of the program."""
        self._own[4] += usage.ru_utime + usage.ru_stime
        self._own[5] += usage.ru_nvcsw
        self._own[6] += usage.ru_nivcsw
        self._table.write(0, self._own)

    def collect(self, now: float) -> PointsAt:
        """Reads what the kernel knows of each process."""
        _, pid, _, started, *_ = self._table.read(0)
        if not pid:
            return PointsAt("", now, points=[])
        tree = self._stable_tree()
        points = [*_process_points(tree, started), *self._own_points(int(pid), started, tree)]
        return PointsAt("", now, points=[self._rising(point) for point in points])

    def _stable_tree(self) -> Tree:
        """Returns sums that were read while no process ended: its CPU time would count twice, or not at all."""
        for _ in range(READ_AGAIN):
            before, tree = self._tree(), self._tree()
            if (before.reaped, before.processes) == (tree.reaped, tree.processes):
                break
        return tree

    def _tree(self) -> Tree:
        *_, cpu, voluntary, involuntary = self._table.read(0)
        tree = Tree(cpu=cpu, voluntary=int(voluntary), involuntary=int(involuntary))
        for each in self.processes():
            with suppress(OSError, psutil.Error):  # it has ended since
                tree.add(each)
        return tree

    def processes(self) -> list[psutil.Process]:
        """Returns the program's processes, those that it has started included."""
        main, _, server, *_ = self._table.read(0)
        if main:
            with suppress(psutil.NoSuchProcess):
                others = {int(server), *(each.pid for each in psutil.Process(int(server)).children(recursive=True))}
                return [each for each in psutil.Process(int(main)).children(recursive=True) if each.pid not in others]
        return []

    def _rising(self, point: Point) -> Point:
        """Returns a point of a counter with the highest value so far: some of what ended processes did is unknown."""
        if point.type != "counter" or not isinstance(point.value, int | float):
            return point
        highest = self._highest[point.name] = max(self._highest.get(point.name, 0), point.value)
        return Point(point.name, point.desc, highest, "counter", point.unit, point.labels)

    def _own_points(self, pid: int, started: float, tree: Tree) -> Iterator[Point]:
        labels = (("pid", str(pid)), ("command", self._command))
        yield Point("stator_child_info", "The wrapped program, without its arguments", 1, labels=labels)
        yield Point("stator_child_start_time_seconds", "When it started, in Unix time", started)
        yield Point("stator_child_processes", "Its processes, those that it has started included", tree.processes)
        yield Point("stator_child_threads", "Threads of all its processes", tree.threads)
        yield Point("stator_child_read_bytes_total", "Bytes that they read from disks", tree.read, "counter")
        yield Point("stator_child_written_bytes_total", "Bytes that they wrote to disks", tree.written, "counter")
        desc = "Context switches, since they waited"
        yield Point("stator_child_voluntary_context_switches_total", desc, tree.voluntary, "counter")
        desc = "Context switches, since others were to run"
        yield Point("stator_child_involuntary_context_switches_total", desc, tree.involuntary, "counter")
        if (kills := oom_kills(pid)) is not None:
            desc = "Processes of its control group that were killed for want of memory"
            yield Point("stator_child_oom_kills_total", desc, kills, "counter")


def _process_points(tree: Tree, started: float) -> Iterator[Point]:
    desc = "CPU time spent by all processes, those that have ended included"
    yield Point("process_cpu_seconds_total", desc, tree.cpu, "counter")
    yield Point("process_open_fds", "Count of open file descriptors", tree.files)
    yield Point("process_max_fds", "Most file descriptors that may be open", tree.most_files)
    yield Point("process_virtual_memory_bytes", "Memory that is mapped", tree.virtual)
    desc = "Memory in RAM; what processes share is counted for each"
    yield Point("process_resident_memory_bytes", desc, tree.resident)
    yield Point("process_start_time_seconds", "When the program started, in Unix time", started)


def oom_kills(pid: int) -> int | None:
    """Returns how many processes of a process's control group the kernel has killed for want of memory, if it says."""
    # https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                file = CGROUPS / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                file = CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            else:
                continue
            with suppress(OSError):
                counts = dict(words.split() for words in file.read_text().splitlines())
                return int(counts["oom_kill"])
    return None
