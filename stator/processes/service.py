"""The processes of a service: what each writes of itself to shared memory, and what the kernel says of it."""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, TypeAlias
from weakref import WeakMethod, finalize

from stator.processes.procfs import Stat, open_files
from stator.processes.shared_table import SharedTable

Role: TypeAlias = Literal["main", "arbiter", "worker", ""]
GENERATIONS = 3
# Process id, start, memory blocks, and the numbers of each generation.
COLUMNS = 3 + 4 * GENERATIONS
# Rows for more than twice the configured workers: gunicorn can start new ones before the old are gone.
SPARE = 4
# Numbers that each process may publish for the others, beside what is known of it.
PUBLISHED = 128


class Generation(NamedTuple):
    """What the garbage collector did to objects of one generation: https://docs.python.org/3/library/gc.html#gc.get_stats."""

    collections: int
    collected: int
    uncollectable: int
    seconds: float


class Process(NamedTuple):
    """A process of the service; what only it knows is as of its last garbage collection, a full one for `blocks`."""

    pid: int
    role: Role  # empty for one that did not register
    worker: int  # from 1, as is that of its replacement; 0 for no worker
    blocks: int  # of memory, that its interpreter holds; 0 if unknown
    generations: tuple[Generation, ...]  # since it registered; empty if unknown
    stat: Stat
    fds: int  # count of open file descriptors; 0 if only its owner may read that


class _SelfStats:
    """What this process knows of itself: memory blocks, and what its garbage collector did from now on."""

    def __init__(self) -> None:
        self._before = gc.get_stats()  # a child is born with its parent's counts
        self._seconds = [0.0] * GENERATIONS
        self._start = 0.0
        self._blocks = sys.getallocatedblocks()

    def on_gc(self, phase: str, info: dict[str, int]) -> None:
        """Times a garbage collection: https://docs.python.org/3/library/gc.html#gc.callbacks."""
        if phase == "start":
            self._start = time.perf_counter()
        else:
            self._seconds[info["generation"]] += time.perf_counter() - self._start

    def count_blocks(self) -> None:
        """Counts the memory blocks: a walk over the whole heap, a tenth of a millisecond for a few million objects."""
        self._blocks = sys.getallocatedblocks()

    def numbers(self) -> list[float]:
        """Returns the memory blocks, as last counted, and the numbers of each generation."""
        numbers: list[float] = [self._blocks]
        for now, before, seconds in zip(gc.get_stats(), self._before, self._seconds, strict=False):
            differences = (now[name] - before[name] for name in ("collections", "collected", "uncollectable"))
            numbers += (*differences, seconds)
        return numbers


class ServiceProcesses:
    """All processes of a service. To be created before the service forks; without workers, each sees itself alone."""

    def __init__(self, workers: int = 0) -> None:
        self.rows = 2 + 2 * workers + SPARE if workers else 0
        self._table = SharedTable(max(1, self.rows), COLUMNS)
        self._published = SharedTable(max(1, self.rows), PUBLISHED)
        self._row: int | None = None
        self.role: Role = ""
        self._pid = self._started = 0
        self._self_stats = _SelfStats()
        self._writing, self._publishing = threading.Lock(), threading.Lock()
        self._own_numbers: tuple[float, ...] = ()
        on_gc = weak_callback(self._on_gc)
        gc.callbacks.append(on_gc)
        finalize(self, _remove_gc_callback, on_gc)

    def register(self, role: Role, worker: int = 0) -> None:
        """Takes the row of the main process, the arbiter or a worker; none if there are more workers than rows."""
        row = {"main": 0, "arbiter": 1}.get(role, 1 + worker)
        self._row = row if row < self.rows else None
        self.role = role
        self._writing, self._publishing = threading.Lock(), threading.Lock()  # a thread of the parent may have held one
        self._self_stats, self._pid, self._started = _SelfStats(), os.getpid(), 0
        with suppress(OSError):  # a snapshot raises it again
            self._started = Stat.of(self._pid).started
        self._write()

    def snapshot(self) -> list[Process]:
        """Returns all living processes, and zombies; raises OSError if /proc can't be read."""
        self._self_stats.count_blocks()
        self._write()
        return list(self._read())

    def publish(self, numbers: Sequence[float]) -> None:
        """Publishes numbers of this process, `PUBLISHED` at most, in place of those before.

        Where two threads do so at the same time, only those of one of them are published.
        """
        self._own_numbers = (*numbers, *[0.0] * (PUBLISHED - len(numbers)))
        if self._has_row() and self._publishing.acquire(blocking=False):
            try:
                self._published.write(self._row or 0, self._own_numbers)
            finally:
                self._publishing.release()

    def published(self) -> list[tuple[float, ...]]:
        """Returns the numbers that each process has published last, `PUBLISHED` each; 0 is what it left open."""
        shared = [self._published.read(row) for row in range(self.rows) if self._published.is_written(row)]
        return shared if self._has_row() or not self._own_numbers else [*shared, self._own_numbers]

    def stable_snapshot(self) -> list[Process]:
        """Like `snapshot`, but taken while no child is being reaped, so that no CPU time is lost or counted twice."""
        while True:
            before, processes = self._reaped(), self.snapshot()
            if before == self._reaped():
                return processes

    def _reaped(self) -> list[int]:
        return [process.stat.reaped for process in self.snapshot() if not process.worker]

    def _on_gc(self, phase: str, info: dict[str, int]) -> None:
        self._self_stats.on_gc(phase, info)
        if phase == "stop":
            if info["generation"] == GENERATIONS - 1:
                self._self_stats.count_blocks()  # not after the many young collections, which take less time than that
            self._write()

    def _has_row(self) -> bool:
        return self._row is not None and self._pid == os.getpid()

    def _write(self) -> None:
        """Writes this process's row, unless it has none or is being written, by a thread or before an interruption."""
        if self._has_row() and self._writing.acquire(blocking=False):
            try:
                self._table.write(self._row or 0, (self._pid, self._started, *self._self_stats.numbers()))
            finally:
                self._writing.release()

    def _read(self) -> Iterator[Process]:
        rows = {row: self._table.read(row) for row in range(self.rows) if self._table.is_written(row)}
        for row, numbers in rows.items():
            yield from self._read_process(row, numbers)
        if all(numbers[0] != os.getpid() for numbers in rows.values()):
            yield from self._read_process(None, (os.getpid(), 0, *self._self_stats.numbers()))

    def _read_process(self, row: int | None, numbers: Sequence[float]) -> Iterator[Process]:
        """Yields the process of a row, unless it's gone, or another process has its id."""
        pid, started, blocks, *rest = numbers
        try:
            stat = Stat.of(int(pid))
            fds = open_files(int(pid)) if stat.is_alive else 0
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last where /proc hides other users'
            if pid == os.getpid():
                raise  # there is no /proc
            return
        if started and stat.started != started:
            return
        role: Role = "" if row is None else "main" if row == 0 else "arbiter" if row == 1 else "worker"
        generations = tuple(
            Generation(int(rest[at]), int(rest[at + 1]), int(rest[at + 2]), rest[at + 3])
            for at in range(0, len(rest) if blocks else 0, 4)
        )
        yield Process(int(pid), role, max(0, (row or 0) - 1), int(blocks), generations, stat, fds)


def weak_callback(method: Callable[..., None]) -> Callable[..., None]:
    """Returns a function that calls a method of an object for as long as that exists, and does not keep it."""
    weak = WeakMethod(method)

    def call(*args: object) -> None:
        if alive := weak():
            alive(*args)

    return call


def _remove_gc_callback(callback: Callable[..., None]) -> None:
    if callback in gc.callbacks:
        gc.callbacks.remove(callback)
