"""A process's own row of the shared memory: how it finds, takes and writes it."""

import fcntl
import mmap
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from sys import is_finalizing

from stator.instrumentation.layout import (
    FAMILY,
    HEAD,
    HEADS,
    KEYS,
    MAPPED,
    OWNERS,
    ROW_CELLS,
    ROWS,
    SERIES,
    USED,
    Cells,
    FamilyKey,
    decode_series,
    encode_series,
    first_cell,
    initial_cells,
    keys_offset,
    record,
    records,
    retire,
)
from stator.instrumentation.naming import rows_called, write_name
from stator.instrumentation.reader import Reader
from stator.processes.discovery import lock_holder

# Seconds that a warning may take: whoever logs it may wait for a lock that this thread holds, such as a metric's.
WARNING_TIMEOUT = 0.5
# madvise(2): the page is zero in a child, whoever has forked it.
_WIPEONFORK = 18
_PAGE = 4096


class Memory:
    """The shared memory, and this process's row in it.

    Attributes:
        epoch: One number that is another one after each fork; 0 in a process that has no row yet.
        lock: Held while a row is taken or a series is added.
        is_incomplete: Whether this process has values that are not shared.
        with_exemplars: Names of the families of which this process has exemplars.
        owners: By the index of each series' first cell, the id of the value for which it was placed last.
    """

    def __init__(self, fd: int, server: int, warn: Callable[[str], object]) -> None:
        self.server, self._fd, self._warn = server, fd, warn
        self._identity = os.fstat(fd)
        # It is never unmapped: closing any descriptor of the file, as that would, unlocks this process's row.
        self._map = mmap.mmap(fd, MAPPED)
        with suppress(OSError, AttributeError):
            self._map.madvise(mmap.MADV_DONTDUMP)
        self.heads = memoryview(self._map)[:HEADS].cast("Q")
        self.cells = memoryview(self._map).cast("d")
        page = mmap.mmap(-1, _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel before 4.14; there, forks that Python does not see stay unseen
            page.madvise(_WIPEONFORK)
        self.epoch = memoryview(page).cast("I")
        self._last_epoch, self._row = 0, -1
        self.lock, self._is_placing = threading.RLock(), False
        self.is_incomplete = False
        self.with_exemplars: set[str] = set()
        self._numbers: dict[FamilyKey, int] = {}
        self._index: dict[bytes, int] = {}
        self.owners: dict[int, int] = {}
        self._used = self._next = 0
        self._warned: set[str] = set()
        self._uses: Counter[str] = Counter()
        self._name, self._named = "", 0  # and the process that has the name: its children have none
        self.reader = Reader(self.heads, self.read_keys)
        os.register_at_fork(after_in_child=self._was_forked)

    def _was_forked(self) -> None:
        # A thread of the parent may have held an inherited lock.
        self.epoch[0], self.reader = 0, Reader(self.heads, self.read_keys)
        self.lock, self._is_placing = threading.RLock(), False

    def set_name(self, name: str) -> None:
        """Gives this process a name in the label ``worker``; if a living one has it, its number stays, with a line."""
        with self.lock:
            self._name, self._named = name, os.getpid()
            if self.row >= 0:
                self._write_name()

    def _write_name(self) -> None:
        name = self._name if os.getpid() == self._named else ""
        write_name(self.heads, self._row, name)
        for row in set(rows_called(self.heads, name)) - {self._row}:
            if self.is_alive(row):
                write_name(self.heads, self._row, "")
                self._warn_once(f"the label 'worker' of this process is a number: another one is called {name!r}")
            else:
                write_name(self.heads, row, "")

    def count_use(self, name: str) -> int:
        """Returns how often this process, or its parent before the fork, has asked so for a name: 1 at first."""
        self._uses[name] += 1
        return self._uses[name]

    @property
    def row(self) -> int:
        """This process's row; -1 if it has none."""
        return self._row if self.epoch[0] else -1

    def read_keys(self, row: int, start: int, end: int) -> bytes:
        """Returns a part of a row's keys."""
        self._check_descriptor()
        return os.pread(self._fd, end - start, keys_offset(row) + start)

    def is_alive(self, row: int) -> bool:
        """Whether a living process has a row."""
        return row == self.row or lock_holder(self._fd, row) is not None

    def place(self, key: FamilyKey, label_values: tuple[str, ...], owner: object) -> tuple[Cells, int]:
        """Returns cells, and the index among them of a series' first; of a value it's followed by its note.

        Cells are the value's own, and shared with nobody, where there is no row or no room. The lock must be held.
        """
        index = None
        if self._is_placing:  # a signal handler or a destructor interrupted this thread below
            self._warn_once("some metrics of this process are not shared: a signal handler or a destructor made them")
        else:
            self._is_placing = True
            try:
                index = self._place(key, label_values)
            except OSError as error:
                self._warn_once(f"some metrics of this process are not shared: {error}")
            finally:
                self._is_placing = False
        if index is None:
            self.is_incomplete = True
            return [*initial_cells(key)], 0
        self.owners[index] = id(owner)
        return self.cells, index

    def _place(self, key: FamilyKey, label_values: tuple[str, ...]) -> int | None:
        if not self.epoch[0]:
            self._enter()
        return self._find_or_add(key, label_values) if self._row >= 0 else None

    def counts_still(self, key: FamilyKey, label_values: tuple[str, ...], removed: float) -> bool:
        """Whether what was removed from this row at that time still counts: another row has had the series since."""
        try:
            family = self.reader.family(key.family, key.type, self.row)
        except OSError:
            return True
        series = family.series.get((key.sample, key.label_names, label_values)) if family else None
        return series is not None and any(0 < self.cells[cell + 1] <= removed for cell in series.cells)

    def _enter(self) -> None:
        """Takes the first row that nobody has, with all that its last owner has counted."""
        self._numbers, self._index, self.owners, self._used, self._next = {}, {}, {}, 0, 0
        self.is_incomplete = False
        try:
            self._row = self._lock_row()
            self._adopt()
            self._write_name()
        except OSError as error:
            self._row = -1
            self._warn_once(f"metrics of this process are not shared: {error}")
        self._last_epoch = self.epoch[0] = self._last_epoch + 1

    def _lock_row(self) -> int:
        self._check_descriptor()
        # The successor of a process with a name takes its row.
        called = rows_called(self.heads, self._name) if os.getpid() == self._named else []
        for row in [0] if os.getpid() == self.server else [*called, *range(1, ROWS)]:
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row)
                return row
        msg = f"{ROWS - 1} processes share metrics already"
        raise OSError(msg)

    def _adopt(self) -> None:
        row, used = self._row, self.heads[self._row * HEAD + USED]
        families: list[FamilyKey] = []
        for kind, text, end in records(self.read_keys(row, 0, used)):
            if kind == FAMILY:
                families.append(family := FamilyKey.decode(text))
                self._numbers[family] = len(families) - 1
            else:
                key = families[decode_series(text)[0]]
                self._index[text] = index = first_cell(row) + self._next
                self._next += key.cells
                if key.mode:
                    retire(self.cells, index, key.mode)
            self._used = end
        self.heads[row * HEAD + OWNERS] += 1

    def _find_or_add(self, key: FamilyKey, label_values: tuple[str, ...]) -> int:
        number = self._numbers.get(key)
        if number is None:
            self._append(FAMILY, key.encode())
            number = self._numbers[key] = len(self._numbers)
        text = encode_series(number, label_values)
        index = self._index.get(text)
        if index is None:
            if self._next + key.cells > ROW_CELLS:
                msg = f"this process has {len(self._index):,} series already"
                raise OSError(msg)
            index = first_cell(self._row) + self._next
            for cell, value in enumerate(initial_cells(key), index):
                self.cells[cell] = value
            self._append(SERIES, text)
            self._index[text] = index
            self._next += key.cells
        return index

    def _append(self, kind: bytes, text: bytes) -> None:
        self._check_descriptor()
        data = record(kind, text)
        if self._used + len(data) > KEYS:
            msg = f"names and labels of this process take {KEYS >> 20} MiB already"
            raise OSError(msg)
        os.pwrite(self._fd, data, keys_offset(self._row) + self._used)
        self._used += len(data)
        self.heads[self._row * HEAD + USED] = self._used  # from now on it is there

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            if is_finalizing():  # a thread would not begin any more
                self._warn(message)
                return
            thread = threading.Thread(target=self._warn, args=(message,), daemon=True)
            with suppress(RuntimeError):  # no thread can be started
                thread.start()
                thread.join(WARNING_TIMEOUT)

    def _check_descriptor(self) -> None:
        """Raises OSError if the application has closed the memory's descriptor, which may be another file's now."""
        if not os.path.samestat(os.fstat(self._fd), self._identity):
            msg = "the descriptor of the shared memory was closed"
            raise OSError(msg)
