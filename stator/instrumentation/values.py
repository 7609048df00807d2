"""The values of prometheus_client's metrics, in this process's row of the shared memory.

Each method on the hot path has no lock: with the GIL no other thread runs between reading a cell and writing it, as
long as nothing is called in between. Hence ``float`` first: another number's ``__add__`` may be Python.
"""

import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from sys import is_finalizing
from typing import Any

from stator.instrumentation.layout import UNSET, Cells, FamilyKey, is_unset
from stator.instrumentation.memory import Memory


class SharedValue:
    """The value of a counter, or one of a summary or a histogram; has the methods of prometheus_client's values.

    Its cell holds what the row's former owners have counted, too: its base.
    """

    __slots__ = ("_base", "_cells", "_epoch", "_exemplar", "_index", "_key", "_label_values", "_memory", "_own_epoch")

    def __init__(self, memory: Memory, key: FamilyKey, label_values: Sequence[str]) -> None:
        self._memory, self._key, self._label_values = memory, key, tuple(label_values)
        self._epoch, self._own_epoch = memory.epoch, -1
        self._exemplar: Any = None
        self._base = 0.0
        self._cells: Cells = []
        self._index = 0
        self._bind()

    def _bind(self) -> None:
        """Finds the value's cell in the row that this process has now: after a fork it is another one."""
        with self._memory.lock:
            if self._epoch[0] == self._own_epoch:
                return  # another thread has done it
            self._cells, self._index = self._memory.place(self._key, self._label_values, self)
            self._begin()
            self._own_epoch = self._epoch[0]

    def _begin(self) -> None:
        removed = -self._cells[self._index + 1]
        if removed > 0:  # and is there again
            if not self._memory.counts_still(self._key, self._label_values, removed):
                self._cells[self._index] = 0.0
            self._cells[self._index + 1] = time.time()
        self._base = self._cells[self._index]

    def inc(self, amount: float) -> None:
        """Adds to the value."""
        amount = float(amount)
        if self._epoch[0] != self._own_epoch:
            self._bind()
        self._cells[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets what this process has counted; not what others have."""
        value = float(value)
        if self._epoch[0] != self._own_epoch:
            self._bind()
        self._cells[self._index] = self._base + value

    def get(self) -> float:
        """Returns what this process has counted."""
        if self._epoch[0] != self._own_epoch:
            self._bind()
        return self._cells[self._index] - self._base

    def set_exemplar(self, exemplar: Any) -> None:
        """Keeps the latest exemplar, in this process."""
        self._memory.with_exemplars.add(self._key.family)
        self._exemplar = exemplar

    def get_exemplar(self) -> Any:
        """Returns this process's latest exemplar."""
        return self._exemplar

    @property
    def is_private(self) -> bool:
        """Whether this process alone has the value: there was no row or no room for it."""
        return self._epoch[0] == self._own_epoch and self._cells is not self._memory.cells

    def withdraw(self) -> None:
        """Removes the series from this process; what is inherited from a parent stays the parent's."""
        if self._epoch[0] != self._own_epoch:
            return
        owners, cells, index, own = self._memory.owners, self._cells, self._index, id(self)
        offset, mark = self._removed()
        cell = index + offset
        # Nothing is called between the look and the mark, so that no other thread can place the series in between.
        with suppress(KeyError):
            if owners[index] == own:
                cells[cell] = mark

    def _removed(self) -> tuple[int, float]:
        """Returns which of its cells says that the series is removed, and how; its sum stays while another has it."""
        return 1, -time.time()

    def detach(self) -> None:
        """Removes the series from this process for good: whoever has the value still counts in cells of its own."""
        self.withdraw()
        self._cells, self._index = [0.0, 0.0], 0
        self._epoch, self._own_epoch = memoryview(bytes(4)).cast("I"), 0  # it has no place in any row from now on

    def __del__(self) -> None:
        # The library drops the values of metrics that nobody has any more. When the process ends they stay.
        if not is_finalizing() and hasattr(self, "_own_epoch"):  # a copy has nothing
            self.withdraw()


class SharedGauge(SharedValue):
    """The value of a gauge."""

    __slots__ = ()

    def _begin(self) -> None:
        if is_unset(self._cells[self._index]):
            self._cells[self._index] = 0.0

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets the value."""
        value = float(value)
        if self._epoch[0] != self._own_epoch:
            self._bind()
        self._cells[self._index] = value

    def get(self) -> float:
        """Returns the value in this process."""
        if self._epoch[0] != self._own_epoch:
            self._bind()
        value = self._cells[self._index]
        return 0.0 if is_unset(value) else value

    def _removed(self) -> tuple[int, float]:
        """Leaves the gauge without a value of this process."""
        return 0, UNSET


class SharedSum(SharedValue):
    """The value of a gauge whose mode is ``sum``: its cell holds what dead processes have left, too."""

    __slots__ = ("_own",)

    def _begin(self) -> None:
        if is_unset(self._cells[self._index]):
            self._cells[self._index] = 0.0
        self._base, self._own = self._cells[self._index], 0.0

    def inc(self, amount: float) -> None:
        """Adds to the value."""
        amount = float(amount)
        if self._epoch[0] != self._own_epoch:
            self._bind()
        self._own += amount
        self._cells[self._index] = self._base + self._own

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets the value."""
        value = float(value)
        if self._epoch[0] != self._own_epoch:
            self._bind()
        self._own = value
        self._cells[self._index] = self._base + value

    def get(self) -> float:
        """Returns the value in this process."""
        if self._epoch[0] != self._own_epoch:
            self._bind()
        return self._own

    def _removed(self) -> tuple[int, float]:
        """Leaves what dead processes had."""
        return 0, self._base if self._cells[self._index + 1] else UNSET


class SharedRecent(SharedGauge):
    """The value of a gauge of which the one that was set last counts."""

    __slots__ = ()

    def _begin(self) -> None:
        """Does nothing: it has no value before it's set."""

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets the value."""
        super().set(value)
        # After the value: whoever is killed in between has not set it.
        self._cells[self._index + 1] = timestamp or time.time()


class SharedDistribution:
    """Counts values in buckets, and sums them, in cells that lie side by side."""

    __slots__ = ("_bounds", "_cells", "_epoch", "_index", "_key", "_label_values", "_memory", "_own_epoch", "_sum")

    def __init__(self, memory: Memory, key: FamilyKey, label_values: tuple[str, ...]) -> None:
        self._memory, self._key, self._label_values, self._bounds = memory, key, label_values, key.bounds
        self._epoch, self._own_epoch = memory.epoch, -1
        self._cells: Cells = []
        self._index = self._sum = 0
        self._bind()

    def _bind(self) -> None:
        """Finds the cells in the row that this process has now: after a fork it is another one."""
        with self._memory.lock:
            if self._epoch[0] == self._own_epoch:
                return  # another thread has done it
            self._cells, self._index = self._memory.place(self._key, self._label_values, self)
            self._sum = self._index + len(self._bounds) + 1
            self._own_epoch = self._epoch[0]

    def observe(self, value: float) -> None:
        """Counts a value."""
        value = float(value)
        if self._epoch[0] != self._own_epoch:
            self._bind()
        cells = self._cells
        cells[self._index + bisect_left(self._bounds, value)] += 1.0
        cells[self._sum] += value

    def private(self) -> list[float] | None:
        """Returns the counts of the buckets, and the sum, if this process alone has them."""
        if self._epoch[0] != self._own_epoch or self._cells is self._memory.cells:
            return None
        return list(self._cells[: self._sum + 1])


_BY_MODE = {"": SharedValue, "sum": SharedSum, "mostrecent": SharedRecent, "livemostrecent": SharedRecent}


def make_value(memory: Memory, key: FamilyKey, label_values: Sequence[str]) -> SharedValue:
    """Returns a new value of the class that its gauge's mode asks for."""
    return _BY_MODE.get(key.mode, SharedGauge)(memory, key, label_values)
