"""Where request metrics keep their numbers, by family and labels, whatever memory they lie in."""

import os
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator
from math import inf
from typing import Protocol, TypeAlias

from stator.instrumentation.layout import FamilyKey
from stator.instrumentation.memory import Memory
from stator.instrumentation.merge import Merge, distributions
from stator.instrumentation.reader import Family
from stator.instrumentation.values import SharedDistribution, SharedValue, make_value
from stator.points import LabelPairs
from stator.processes.service import weak_callback

Key: TypeAlias = tuple[str, LabelPairs]
"""A family's name and labels."""
Bounds: TypeAlias = tuple[float, ...]
"""Upper bounds of buckets, ascending, but for that of the last, which has none."""

# Begins the type of families that are no application's own metrics.
OWN = "stator:"


class Cell(Protocol):
    """One number."""

    def inc(self, amount: float) -> None:
        """Adds to it."""


class Distribution(Protocol):
    """Counts of buckets, which are not cumulative, and a sum."""

    def observe(self, value: float) -> None:
        """Counts a value."""


class Store(Protocol):
    """Numbers by key; one in memory that processes share gives the sums of all."""

    def cell(self, family: str, labels: LabelPairs) -> Cell:
        """Returns the cell of a key, which is 0 at first; whoever keeps it needs no second look-up."""

    def distribution(self, family: str, labels: LabelPairs, bounds: Bounds, most: float = inf) -> Distribution | None:
        """Returns the distribution of a key; None if the family would have more than so many with it."""

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields the key and the number of each cell."""

    def distributions(self) -> Iterator[tuple[Key, Bounds, list[float]]]:
        """Yields the key and the bounds of each distribution, and its counts, with the sum as the last number."""


class LocalCell:
    """A number of this process."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float) -> None:
        """Adds to it."""
        # No lock: with the GIL, no other thread runs between the load and the store of a slot.
        self.value += amount


class LocalDistribution:
    """A distribution of this process."""

    __slots__ = ("bounds", "numbers")

    def __init__(self, bounds: Bounds) -> None:
        self.bounds, self.numbers = bounds, [0.0] * (len(bounds) + 2)

    def observe(self, value: float) -> None:
        """Counts a value."""
        self.numbers[bisect_left(self.bounds, value)] += 1.0
        self.numbers[-1] += value


class LocalStore:
    """Numbers of this process."""

    def __init__(self) -> None:
        self._cells: dict[Key, LocalCell] = {}
        self._distributions: dict[str, dict[LabelPairs, LocalDistribution]] = {}

    def cell(self, family: str, labels: LabelPairs) -> LocalCell:
        """Returns the cell of a key."""
        # setdefault: all threads that come first get the same one.
        return self._cells.setdefault((family, labels), LocalCell())

    def distribution(
        self, family: str, labels: LabelPairs, bounds: Bounds, most: float = inf
    ) -> LocalDistribution | None:
        """Returns the distribution of a key, or None if that would be one too many."""
        every = self._distributions.setdefault(family, {})
        if labels not in every and len(every) >= most:
            return None
        return every.setdefault(labels, LocalDistribution(bounds))

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields the key and the number of each cell."""
        return ((key, cell.value) for key, cell in list(self._cells.items()))

    def distributions(self) -> Iterator[tuple[Key, Bounds, list[float]]]:
        """Yields the key, the bounds and the numbers of each distribution."""
        for family, every in list(self._distributions.items()):
            for labels, own in list(every.items()):
                yield (family, labels), own.bounds, own.numbers.copy()


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
        self._cells: dict[Key, SharedValue] = {}  # kept, since a value that nobody has any more counts no longer
        self._distributions: dict[tuple[FamilyKey, tuple[str, ...]], SharedDistribution] = {}
        self._unlock()
        os.register_at_fork(after_in_child=weak_callback(self._unlock))

    def _unlock(self) -> None:
        self._lock = threading.RLock()  # a thread of the parent may have held the inherited one

    def cell(self, family: str, labels: LabelPairs) -> Cell:
        """Returns the cell of a key."""
        with self._lock:  # not two at a time: the end of one would remove the other's series
            key = (family, labels)
            return self._cells.get(key) or self._cells.setdefault(key, self._make(family, labels))

    def _make(self, family: str, labels: LabelPairs) -> SharedValue:
        names, values = tuple(name for name, _ in labels), tuple(value for _, value in labels)
        mode = "livesum" if family in self._live else ""
        return make_value(self._memory, FamilyKey(self._type, family, family, names, "", mode), values)

    def distribution(
        self, family: str, labels: LabelPairs, bounds: Bounds, most: float = inf
    ) -> SharedDistribution | None:
        """Returns the distribution of a key, or None if all workers together had one too many then."""
        names, values = tuple(name for name, _ in labels), tuple(value for _, value in labels)
        key = FamilyKey(self._type, family, family, names, "", "", bounds)
        with self._lock:
            if found := self._distributions.get((key, values)):
                return found
            if most < inf and not self._has_room(key, values, most):
                return None
            made = SharedDistribution(self._memory, key, values)
            return self._distributions.setdefault((key, values), made)

    def _has_room(self, key: FamilyKey, values: tuple[str, ...], most: float) -> bool:
        """Whether some worker, be it one that is gone, has the series, or all of them have fewer than so many."""
        memory = self._memory
        try:
            family = memory.reader.family(key.family, key.type, memory.row, key.bounds)
        except OSError:  # it's then placed in none, which is logged
            family = None
        known = family.series if family else {}
        if (key.sample, key.label_names, values) in known:
            return True
        own = 0
        if memory.is_incomplete:  # those without a place in the memory are known to this process alone
            own = sum(each.private() is not None for (of, _), each in self._distributions.items() if of == key)
        return len(known) + own < most

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields each cell's key and number, the sum of all workers; raises OSError if the memory can't be read."""
        found: dict[Key, float] = {}
        for family in self._families():
            if not family.bounds:
                for sample in Merge(self._memory, family, with_created=False).samples():
                    found[sample.name, tuple(sample.labels.items())] = sample.value
        for key, cell in list(self._cells.items()):
            if cell.is_private:
                found[key] = found.get(key, 0.0) + cell.get()
        yield from found.items()

    def distributions(self) -> Iterator[tuple[Key, Bounds, list[float]]]:
        """Yields the distributions of all workers; raises OSError if the memory can't be read.

        One that this process could not place in the memory comes a second time, with what it has counted itself.
        """
        for family in self._families():
            if family.bounds:
                for series, numbers in distributions(self._memory, family):
                    yield (family.name, tuple(series.labels.items())), family.bounds, numbers
        for (key, values), own in list(self._distributions.items()):
            if (counted := own.private()) is not None:
                yield (key.family, tuple(zip(key.label_names, values, strict=True))), key.bounds, counted

    def _families(self) -> list[Family]:
        every = self._memory.reader.families(self._memory.row)
        return [family for family in every if family.type == self._type]
