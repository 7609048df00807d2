"""Numbers that several processes share: a small block of memory, made before they part."""

from array import array
from collections.abc import Sequence
from mmap import mmap

_BYTES = 8


class Table:
    """Rows of numbers in memory that whoever is forked afterwards shares.

    Each row has one writer at a time, and any number of readers, who always see all values of one writing. Nobody
    waits for a lock: a writer that dies in the middle of a row leaves it as it was.

    A row is held twice. The number of its writings so far says, by being even or odd, which copy is read; a writer
    fills the other, and then counts.

    Args:
        rows: Number of rows.
        columns: Numbers in a row: float64, all 0 at the start.
        memory: As many bytes as `size` says, 0 where nobody has written yet; None for new ones.
    """

    def __init__(self, rows: int, columns: int, memory: mmap | None = None) -> None:
        view = memoryview(mmap(-1, self.size(rows, columns)) if memory is None else memory)
        self._writings = view[: rows * _BYTES].cast("Q")
        self._values = view[rows * _BYTES :].cast("d")
        self._columns = columns

    @staticmethod
    def size(rows: int, columns: int) -> int:
        """Bytes that a table takes."""
        return rows * (1 + 2 * columns) * _BYTES

    def write(self, row: int, values: Sequence[float]) -> None:
        """Gives a row new values, as many as there are columns."""
        next_ = self._writings[row] + 1
        start = self._start(row, next_)
        if len(values) != self._columns:
            msg = f"a row has {self._columns} values, not {len(values)}"
            raise ValueError(msg)
        self._values[start : start + self._columns] = memoryview(array("d", values))
        self._writings[row] = next_

    def is_written(self, row: int) -> bool:
        """Whether a row was ever given values."""
        return self._writings[row] > 0

    def read(self, row: int) -> tuple[float, ...]:
        """A row's values, all of the same writing."""
        while True:
            writings = self._writings[row]
            start = self._start(row, writings)
            values = tuple(self._values[start : start + self._columns])
            # Where another writing was done meanwhile, the next one may have begun in what was just read.
            if self._writings[row] == writings:
                return values

    def _start(self, row: int, writings: int) -> int:
        return (2 * row + writings % 2) * self._columns
