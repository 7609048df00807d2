"""The memory in which processes share metrics: heads, cells and keys of up to 64 rows, a row for a living process.

    ┌──────────────────────────────┐ 0
    │ heads, 64 bytes a row        │   bytes of keys that are written; owners that it has had; the last one's name
    ├──────────────────────────────┤ 4 KiB
    │ cells of row 0: 4 MiB        │   two float64 for each series, in the order of its key: value, note;
    │ cells of row 1               │   of a distribution: one for each bucket, not cumulative, and one for the sum
    │ …                            │
    ├──────────────────────────────┤ 4 KiB + 64 x 4 MiB
    │ keys of row 0: 60 MiB        │   append-only records: length, CRC-32 (both uint32), kind, text; padded to 8 bytes
    │ keys of row 1                │   kind F: a family, as JSON; they count from 0
    │ …                            │   kind S: a series: its family's number, its label values as JSON
    └──────────────────────────────┘

Only what is written takes memory. A row has one writer: the process that has byte ``row`` of the file locked
(``fcntl.lockf``); the kernel unlocks it when that process ends, however it does. Row 0 is for the server's main
process, and all others for whoever comes first: a new process takes the lowest row that is not locked, and goes on
with what its last owner has counted. A key is written first, and the head's number of bytes last, so that a process
that is killed leaves no half of a key. A float64 is read and written in one piece.

What a series' note is depends on its type and mode:

- counters, summaries, histograms: when it was created, in Unix seconds; negative: when it was removed, after that.
- gauges of the modes min and max: the least or the greatest value of the row's former owners, or `UNSET`.
- gauges of the mode sum: 1 if former owners are part of the value.
- gauges of the modes mostrecent: when it was set.
"""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

ROWS = 64
HEADS, CELLS, KEYS = 4096, 4 << 20, 60 << 20
HEAD = 8  # numbers (uint64) of each row's head
USED, OWNERS, NAMED = 0, 1, 2  # of a head; the name, if there is one, takes the rest
ROW_CELLS = CELLS // 8  # float64 of a row
MAPPED = HEADS + ROWS * CELLS
SIZE = MAPPED + ROWS * KEYS
FIRST_CELL = HEADS // 8
_VERSION = 2
PREFIX = "stator-metrics-"
NAME = f"{PREFIX}{_VERSION}"
# A value that a gauge does not have: not a number, and none that arithmetic makes.
_UNSET = b"Stator\xf8\x7f"
(UNSET,) = struct.unpack("<d", _UNSET)
_RECORD = struct.Struct("<II")
FAMILY, SERIES = b"F", b"S"
Cells: TypeAlias = "memoryview[float] | list[float]"


class FamilyKey(NamedTuple):
    """What the series of one sample name have in common."""

    type: str  # as prometheus_client calls it: counter, gauge, summary, histogram, info, stateset
    family: str  # name of the family
    sample: str  # name of the samples
    label_names: tuple[str, ...]
    documentation: str
    mode: str  # of a gauge among several processes; empty for other types
    bounds: tuple[float, ...] = ()  # of a distribution: upper bounds of its buckets, but for the last one's

    @property
    def cells(self) -> int:
        """How many float64 a series takes, always an even number."""
        return 2 * ((len(self.bounds) + 3) // 2) if self.bounds else 2

    def encode(self) -> bytes:
        """Returns the text of its record."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, text: bytes) -> "FamilyKey":
        """Returns what `encode` has encoded."""
        type_, family, sample, label_names, documentation, mode, bounds = json.loads(text)
        return cls(type_, family, sample, tuple(label_names), documentation, mode, tuple(bounds))


def encode_series(family: int, label_values: tuple[str, ...]) -> bytes:
    """Returns the text of a series' record."""
    return b"%d%s" % (family, json.dumps(label_values).encode())


def decode_series(text: bytes) -> tuple[int, tuple[str, ...]]:
    """Returns the family's number and the label values of a series' record."""
    number, bracket, rest = text.partition(b"[")
    return int(number), tuple(json.loads(bracket + rest))


def is_unset(value: float) -> bool:
    """Whether this is `UNSET`; an application's own NaN is not."""
    return value != value and struct.pack("<d", value) == _UNSET  # noqa: PLR0124 # only a NaN differs from itself


def first_cell(row: int) -> int:
    """Returns the index of a row's first cell among all float64 of the mapped memory."""
    return FIRST_CELL + row * ROW_CELLS


def keys_offset(row: int) -> int:
    """Returns where a row's keys begin in the file."""
    return MAPPED + row * KEYS


def record(kind: bytes, text: bytes) -> bytes:
    """Returns a record of a row's keys."""
    body = kind + text
    return _RECORD.pack(len(body), zlib.crc32(body)) + body + bytes(-len(body) % 8)


def records(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yields kind, text and end of each whole record."""
    at = 0
    while at + _RECORD.size <= len(data):
        length, checksum = _RECORD.unpack_from(data, at)
        body = data[at + _RECORD.size : at + _RECORD.size + length]
        if zlib.crc32(body) != checksum or not length:
            return  # a processor that does not keep the order of writes: it is there the next time
        at += _RECORD.size + length + -length % 8
        yield body[:1], body[1:], at


def initial_cells(key: FamilyKey) -> tuple[float, ...]:
    """Returns a new series' value and note, or the numbers of a distribution."""
    if key.bounds:
        return (0.0,) * key.cells
    if not key.mode:
        return 0.0, time.time()
    return UNSET, UNSET if key.mode.endswith(("min", "max")) else 0.0


def retire(cells: Cells, index: int, mode: str) -> None:
    """Leaves to a row's next owner what a gauge of the last one still means, now that its process is dead."""
    value, least_or_greatest = cells[index], cells[index + 1]
    if mode == "mostrecent":
        return
    if mode == "sum":
        cells[index + 1] = float(not is_unset(value))
        return
    if mode in ("min", "max") and not is_unset(value):
        fold = min if mode == "min" else max
        cells[index + 1] = value if is_unset(least_or_greatest) else fold(value, least_or_greatest)
    elif mode == "livemostrecent":
        cells[index + 1] = 0.0
    cells[index] = UNSET
