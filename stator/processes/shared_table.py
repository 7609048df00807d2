"""Numbers that several processes share, in a small block of memory that is created before they fork."""

from array import array
from collections.abc import Sequence
from mmap import mmap

_BYTES = 8


class SharedTable:
    """Rows of float64 in memory, by default new and shared with processes forked later; 0 before the first write.

    Each row has one writer at a time and any number of readers, which always see all values of one write. There is no
    lock: a writer that dies in the middle of a row leaves the row as it was. There are two copies of each row, and the
    count of its writes says, even or odd, which one to read; a writer fills the other, and then increments the count.
    """

    def __init__(self, rows: int, columns: int, memory: mmap | memoryview | None = None) -> None:
        view = memoryview(mmap(-1, self.size(rows, columns)) if memory is None else memory)
        self._writes = view[: rows * _BYTES].cast("Q")
        self._values = view[rows * _BYTES :].cast("d")
        self._columns = columns

    @staticmethod
    def size(rows: int, columns: int) -> int:
        """Returns how many bytes a table takes."""
        return rows * (1 + 2 * columns) * _BYTES

    def write(self, row: int, values: Sequence[float]) -> None:
        """Writes a row's values, as many as there are columns."""
        writes = self._writes[row] + 1
        start = self._start(row, writes)
        if len(values) != self._columns:
            msg = f"a row has {self._columns} values, not {len(values)}"
            raise ValueError(msg)
        self._values[start : start + self._columns] = memoryview(array("d", values))
        self._writes[row] = writes

    def is_written(self, row: int) -> bool:
        """Whether a row was ever written."""
        return self._writes[row] > 0

    def read(self, row: int) -> tuple[float, ...]:
        """Returns a row's values, all of one write."""
        while True:
            writes = self._writes[row]
            start = self._start(row, writes)
            values = tuple(self._values[start : start + self._columns])
            # After another write, the next one may have begun to fill the copy that was just read.
            if self._writes[row] == writes:
                return values

    def _start(self, row: int, writes: int) -> int:
        return (2 * row + writes % 2) * self._columns
