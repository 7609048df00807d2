"""Where request metrics keep their numbers: one cell for each key, whatever memory it lies in."""

import os
import threading
from collections.abc import Collection, Iterator
from typing import Protocol, TypeAlias

from stator.instrumentation.layout import FamilyKey
from stator.instrumentation.memory import Memory
from stator.instrumentation.merge import Merge
from stator.instrumentation.values import make_value
from stator.points import LabelPairs
from stator.processes.service import weak_callback

Key: TypeAlias = tuple[str, LabelPairs]
"""A family's name and labels."""


# Begins the type of families that are no application's own metrics.
OWN = "stator:"


class Cell(Protocol):
    """One number."""

    def inc(self, amount: float) -> None:
        """Adds to it."""


class Store(Protocol):
    """Numbers by key; one in memory that processes share gives the sums of all."""

    def cell(self, family: str, labels: LabelPairs) -> Cell:
        """Returns the cell of a key, which is 0 at first; whoever keeps it needs no second look-up."""

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields each key and its number."""


class LocalCell:
    """A number of this process."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float) -> None:
        """Adds to it."""
        # No lock: with the GIL, no other thread runs between the load and the store of a slot.
        self.value += amount


class LocalStore:
    """Numbers of this process."""

    def __init__(self) -> None:
        self._cells: dict[Key, LocalCell] = {}

    def cell(self, family: str, labels: LabelPairs) -> LocalCell:
        """Returns the cell of a key."""
        # setdefault: all threads that come first get the same one.
        return self._cells.setdefault((family, labels), LocalCell())

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields each key and its number."""
        return ((key, cell.value) for key, cell in list(self._cells.items()))


class SharedStore:
    """Numbers of all workers of a server, in the memory that they share.

    Args:
        memory: This process's own part of it.
        service: Name of the service; each store of a process has numbers of its own, together with those of the
            siblings that were made in the same order.
        live: Families of which the numbers of processes that are gone do not count.
    """

    def __init__(self, memory: Memory, service: str, live: Collection[str]) -> None:
        name = f"{OWN}{service}"
        self._memory, self._type, self._live = memory, f"{name}:{memory.count_use(name)}", frozenset(live)
        self._cells: dict[Key, Cell] = {}  # kept, since a value that nobody has any more counts no longer
        self._unlock()
        os.register_at_fork(after_in_child=weak_callback(self._unlock))

    def _unlock(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held the inherited one

    def cell(self, family: str, labels: LabelPairs) -> Cell:
        """Returns the cell of a key."""
        with self._lock:  # not two at a time: the end of one would remove the other's series
            key = (family, labels)
            return self._cells.get(key) or self._cells.setdefault(key, self._make(family, labels))

    def _make(self, family: str, labels: LabelPairs) -> Cell:
        names, values = tuple(name for name, _ in labels), tuple(value for _, value in labels)
        mode = "livesum" if family in self._live else ""
        return make_value(self._memory, FamilyKey(self._type, family, family, names, "", mode), values)

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields each key and its number, the sum of all workers; raises OSError if the memory can't be read."""
        for family in self._memory.reader.families(self._memory.row):
            if family.type == self._type:
                for sample in Merge(self._memory, family, with_created=False).samples():
                    yield (sample.name, tuple(sample.labels.items())), sample.value
