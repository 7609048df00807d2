"""Finds all processes' series in the shared memory; keys that were read once stay read."""

import threading
from collections.abc import Callable

from stator.instrumentation.layout import FAMILY, HEAD, ROWS, USED, FamilyKey, decode_series, first_cell, records

SeriesKey = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Name of the samples, names of the labels, their values."""


class Series:
    """One series, and where the rows have it.

    Attributes:
        cells: Index of its value in each row that has it, ascending; its note is the next, or the rest of a
            distribution.
    """

    __slots__ = ("cells", "labels", "sample")

    def __init__(self, sample: str, labels: dict[str, str]) -> None:
        self.sample, self.labels = sample, labels
        self.cells: list[int] = []


class Family:
    """All series of a metric, in the order in which they were found."""

    def __init__(self, key: FamilyKey) -> None:
        self.name, self.type, self.documentation = key.family, key.type, key.documentation
        self.bounds = key.bounds
        self.mode = key.mode  # this process's own, where processes have different ones
        self.series: dict[SeriesKey, Series] = {}
        self._distributions: list[tuple[Series, list[Series]]] = []
        self._grouped = 0

    def add(self, key: FamilyKey, label_values: tuple[str, ...], cell: int) -> None:
        """Adds a cell of a series."""
        own = key.sample, key.label_names, label_values
        series = self.series.get(own)
        if series is None:
            labels = dict(zip(key.label_names, label_values, strict=True))
            series = self.series[own] = Series(key.sample, labels)
        # In one order in all processes, or else their sums of floats differ in the last digit, and a counter may fall.
        # A new list: another thread may be adding up the old one.
        series.cells = sorted([*series.cells, cell])

    def distributions(self) -> list[tuple[Series, list[Series]]]:
        """Returns the histograms of a family: of each its sum, and its buckets, ascending."""
        if self._grouped < len(self.series):
            every = dict(self.series)
            buckets: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Series]] = {}
            for (sample, names, values), series in every.items():
                if sample == f"{self.name}_bucket":
                    buckets.setdefault((names[:-1], values[:-1]), []).append(series)
            for group in buckets.values():
                group.sort(key=lambda series: float(series.labels["le"]))
            sums = ((own, series) for own, series in every.items() if own[0] == f"{self.name}_sum")
            self._distributions = [(series, buckets[own[1:]]) for own, series in sums if own[1:] in buckets]
            self._grouped = len(every)
        return self._distributions


class Reader:
    """The families of all rows, as one process knows them."""

    def __init__(self, heads: memoryview, read_keys: Callable[[int, int, int], bytes]) -> None:
        self._heads, self._read_keys = heads, read_keys
        self._lock, self._is_reading = threading.RLock(), False
        self._read = [0] * ROWS
        self._keys: list[list[FamilyKey]] = [[] for _ in range(ROWS)]
        self._cells = [0] * ROWS
        self._families: dict[tuple[str, str, tuple[float, ...]], Family] = {}

    def family(self, name: str, type_: str, own_row: int, bounds: tuple[float, ...] = ()) -> Family | None:
        """Returns a family by name, type and bounds, or None; raises OSError if the memory can't be read."""
        self._refresh(own_row)
        return self._families.get((name, type_, bounds))

    def families(self, own_row: int) -> list[Family]:
        """Returns all families; raises OSError if the memory can't be read."""
        self._refresh(own_row)
        return list(self._families.values())

    def _refresh(self, own_row: int) -> None:
        used = self._heads[USED::HEAD].tolist()
        if used == self._read:
            return
        with self._lock:
            if self._is_reading:  # a signal handler or a destructor interrupted this thread below
                return
            self._is_reading = True
            try:
                for row in range(ROWS):
                    if used[row] > self._read[row]:
                        self._read_row(row, used[row], is_own=row == own_row)
            finally:
                self._is_reading = False

    def _read_row(self, row: int, used: int, *, is_own: bool) -> None:
        start, keys = self._read[row], self._keys[row]
        for kind, text, end in records(self._read_keys(row, start, used)):
            if kind == FAMILY:
                keys.append(FamilyKey.decode(text))
            else:
                number, label_values = decode_series(text)
                key = keys[number]
                family = self._families.get((key.family, key.type, key.bounds)) or self._add(key)
                if is_own:
                    family.mode, family.documentation = key.mode, key.documentation
                family.add(key, label_values, first_cell(row) + self._cells[row])
                self._cells[row] += key.cells
            self._read[row] = start + end

    def _add(self, key: FamilyKey) -> Family:
        return self._families.setdefault((key.family, key.type, key.bounds), Family(key))
