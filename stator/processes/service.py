"""The processes of a service: what each tells the others of itself, and what the kernel tells of it.

What only a process itself knows goes through memory that all share: each has a row there, and writes it whenever its
garbage collector has run, and when it is asked.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeAlias
from weakref import WeakMethod, finalize

from stator.processes.procfs import ProcessStat, Stat
from stator.processes.shared_table import Table

Role: TypeAlias = Literal["main", "arbiter", "worker", ""]
GENERATIONS = 3
# Process id, start, memory blocks, and the numbers of each generation.
COLUMNS = 3 + 4 * GENERATIONS
# Workers beyond twice those configured that have a row: gunicorn can start new ones before the old are gone.
SPARE = 4


class Generation(NamedTuple):
    """What the garbage collector did to objects of one generation: https://docs.python.org/3/library/gc.html#gc.get_stats."""

    collections: int
    collected: int
    uncollectable: int
    seconds: float


class Process(NamedTuple):
    """A process of the service.

    Attributes:
        pid: Its id.
        role: What it does; empty where nobody has told.
        worker: Number of a worker, from 1; the one that replaces it has the same.
        blocks: Memory blocks that its interpreter holds, after the last garbage collection at the latest; 0 where it
            has not told.
        generations: What its garbage collector did since it entered; none where it has not told.
        stat: What the kernel tells of it now.
        fds: Number of its open file descriptors; 0 where the kernel tells only its owner.
    """

    pid: int
    role: Role
    worker: int
    blocks: int
    generations: tuple[Generation, ...]
    stat: Stat
    fds: int


class _Own:
    """What this process knows of itself: what its garbage collector did from now on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        # A child is born with its parent's counts.
        self._before = gc.get_stats()
        self._clock = clock
        self._seconds = [0.0] * GENERATIONS
        self._start = 0.0
        self._collections = 0
        # What the numbers of all generations were after how many collections.
        self._kept: tuple[int, list[float]] = -1, []

    def heard(self, phase: str, info: dict[str, int]) -> None:
        """Takes the time of a garbage collection: https://docs.python.org/3/library/gc.html#gc.callbacks."""
        if phase == "start":
            self._start = self._clock()
        else:
            self._seconds[info["generation"]] += self._clock() - self._start
            self._collections += 1

    def numbers(self) -> list[float]:
        """Memory blocks, and the numbers of each generation."""
        collections, generations = self._kept
        if collections != self._collections:
            collections, generations = self._collections, self._of_generations()
            self._kept = collections, generations
        return [sys.getallocatedblocks(), *generations]

    def _of_generations(self) -> list[float]:
        numbers: list[float] = []
        for now, before, seconds in zip(gc.get_stats(), self._before, self._seconds, strict=False):
            differences = (now[name] - before[name] for name in ("collections", "collected", "uncollectable"))
            numbers += (*differences, seconds)
        return numbers


class ServiceProcesses:
    """All processes of a service. To be made before they part.

    Args:
        workers: Number of workers; where it's 0, each process knows of itself alone.
        clock: Seconds that only go up.
    """

    def __init__(self, workers: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.rows = 2 + 2 * workers + SPARE if workers else 0
        self._table = Table(max(1, self.rows), COLUMNS)
        self._clock = clock
        self._row: int | None = None
        self._entered = self._started = 0
        self._own = _Own(clock)
        # By process id and start, as rows have them.
        self._opened: dict[tuple[float, ...], ProcessStat] = {}
        self._gone: set[tuple[float, ...]] = set()
        # What was last made of each row, and of what: mostly nothing of it has changed.
        self._made: dict[int | None, tuple[tuple[Any, ...], Process]] = {}
        self._unlock()
        os.register_at_fork(after_in_child=while_kept(self._unlock))
        heard = while_kept(self._heard)
        gc.callbacks.append(heard)
        finalize(self, _no_longer_call, heard)

    def _unlock(self) -> None:
        self._writing, self._reading = threading.Lock(), threading.Lock()

    def enter(self, role: Role, worker: int = 0) -> None:
        """Takes this process's row: the main process's, the arbiter's, or that of a worker's number.

        Where there are more workers than rows, it has none: others don't see it.
        """
        row = {"main": 0, "arbiter": 1}.get(role, 1 + worker)
        self._row = row if row < self.rows else None
        self._own, self._entered, self._started = _Own(self._clock), os.getpid(), 0
        with suppress(OSError), ProcessStat(self._entered) as opened:  # it's told to those who ask
            self._started = opened.stat().started
        self._write()

    def members(self) -> list[Process]:
        """Those that live, and those that are dead but were not waited for.

        Raises:
            OSError: The kernel would not tell of one.
        """
        self._write()
        with self._reading:
            return list(self._members())

    def settled(self) -> list[Process]:
        """The same at a moment when nobody is waited for: who was would be missing, or its CPU time be counted twice.

        Raises:
            OSError: The kernel would not tell of one.
        """
        while True:
            before, members = self._reaped(), self.members()
            if before == self._reaped():
                return members

    def _reaped(self) -> list[int]:
        return [each.stat.reaped for each in self.members() if not each.worker]

    def _heard(self, phase: str, info: dict[str, int]) -> None:
        self._own.heard(phase, info)
        if phase == "stop":
            self._write()

    def _write(self) -> None:
        """Writes this process's row, if it has one and nobody is about to: another thread, or this one before."""
        if self._row is not None and self._entered == os.getpid() and self._writing.acquire(blocking=False):
            try:
                self._table.write(self._row, (self._entered, self._started, *self._own.numbers()))
            finally:
                self._writing.release()

    def _members(self) -> Iterator[Process]:
        rows = {row: self._table.read(row) for row in range(self.rows) if self._table.is_written(row)}
        keys = {numbers[:2] for numbers in rows.values()}
        own = (os.getpid(), 0)
        for forgotten in self._opened.keys() - keys - {own}:
            self._opened.pop(forgotten).close()
        self._gone &= keys
        for row, numbers in rows.items():
            if numbers[:2] not in self._gone:
                yield from self._member(row, numbers)
        if all(numbers[0] != own[0] for numbers in rows.values()):
            yield from self._member(None, (*own, *self._own.numbers()))

    def _member(self, row: int | None, numbers: Sequence[float]) -> Iterator[Process]:
        """The process of a row, unless it's gone, or another has been given its id."""
        key = pid, started = tuple(numbers[:2])
        try:
            if key not in self._opened:
                self._opened[key] = ProcessStat(int(pid))
            stat = self._opened[key].stat()
            fds = self._opened[key].fds() if stat.is_alive else 0
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last is for one that the kernel hides
            if pid == os.getpid():
                raise  # there is no /proc
            self._gone.add(key)
            return
        if stat.started == started or not started:
            parts = numbers, stat, fds
            if row not in self._made or self._made[row][0] != parts:
                self._made[row] = parts, _process(row, *parts)
            yield self._made[row][1]


def while_kept(method: Callable[..., None]) -> Callable[..., None]:
    """A method that does not keep its object, and does nothing once that is gone.

    An application that has Stator in it may be made many times in one process, as its tests do.
    """
    weak = WeakMethod(method)

    def call(*args: object) -> None:
        if bound := weak():
            bound(*args)

    return call


def _no_longer_call(heard: Callable[..., None]) -> None:
    if heard in gc.callbacks:
        gc.callbacks.remove(heard)


def _process(row: int | None, numbers: Sequence[float], stat: Stat, fds: int) -> Process:
    role: Role = "" if row is None else "main" if row == 0 else "arbiter" if row == 1 else "worker"
    pid, _, blocks, *rest = numbers
    generations = tuple(
        Generation(int(rest[at]), int(rest[at + 1]), int(rest[at + 2]), rest[at + 3])
        for at in range(0, len(rest) if blocks else 0, 4)
    )
    return Process(int(pid), role, max(0, (row or 0) - 1), int(blocks), generations, stat, fds)
