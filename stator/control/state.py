"""What a service shows of its state: a small file in memory, which its processes share and `ctl` reads.

Layout: the magic with the layout's version; a byte with the lowest level of the log, 0 for the configured one; a count
of the writes (uint64); and two copies of the state, each a length and a CRC-32 (uint32) and a JSON object. The count,
even or odd, says which copy was written last; a writer fills the other one, and then increments the count. So one that
is killed in the middle leaves the state as it was, and a reader that was overtaken sees it by the checksum.
"""

import os
import struct
import threading
import zlib
from contextlib import suppress
from mmap import mmap
from typing import Any

import msgspec

NAME = "stator-state"  # of the file, or what it begins with
MAGIC = b"stator\0\1"
_KIND, _LEVEL = MAGIC[:-1], len(MAGIC)
_COUNT, _HEAD = struct.Struct("<Q"), struct.Struct("<II")
_COUNT_AT, _FIRST, _COPY = 16, 32, 4096
SIZE = _FIRST + 2 * _COPY
_LONGEST = 500  # characters of a text
_READS = 100  # tries to read what is being written


class StateError(Exception):
    """A file does not hold a state that can be read; the message says why."""


class SharedState:
    """The state as its service writes it. To be created before the service forks, or for memory that is there."""

    def __init__(self, memory: mmap) -> None:
        self._memory, self._fields = memory, dict[str, Any]()
        self.level = memoryview(memory)[_LEVEL : _LEVEL + 1]
        self._writing = threading.Lock()
        if not memory[:_LEVEL].startswith(_KIND):
            memory[:_LEVEL] = MAGIC

    @classmethod
    def new(cls, name: str = NAME) -> "SharedState":
        """Returns a new one; where no file in memory can be had, one that nobody else finds."""
        with suppress(OSError):
            fd = os.memfd_create(name)
            try:
                return cls.of_file(fd)
            finally:
                os.close(fd)
        return cls(mmap(-1, SIZE))

    @classmethod
    def of_file(cls, fd: int) -> "SharedState":
        """Returns that of an open file, which may be closed then; raises OSError or ValueError."""
        if os.fstat(fd).st_size < SIZE:
            os.ftruncate(fd, SIZE)
        # The mapping keeps a descriptor of its own, by which others find the file.
        return cls(mmap(fd, SIZE))

    def publish(self, **fields: object) -> None:
        """Adds fields to what the state says, or replaces them; one process may do that."""
        with self._writing:
            self._fields |= {name: each[:_LONGEST] if isinstance(each, str) else each for name, each in fields.items()}
            data = msgspec.json.encode(self._fields)
            if len(data) > _COPY - _HEAD.size:
                return
            count = _COUNT.unpack_from(self._memory, _COUNT_AT)[0] + 1
            start = _start(count)
            head = _HEAD.pack(len(data), zlib.crc32(data))
            self._memory[start : start + len(head) + len(data)] = head + data
            _COUNT.pack_into(self._memory, _COUNT_AT, count)


def read_state(fd: int) -> tuple[dict[str, Any], int]:
    """Returns what was published in an open file, and the byte of the level; raises StateError or OSError."""
    for _ in range(_READS):
        data = os.pread(fd, SIZE, 0)
        if not data.startswith(_KIND) or len(data) < SIZE:
            msg = "its state has an unknown form"
            raise StateError(msg)
        if not data.startswith(MAGIC):
            msg = f"its state has form {data[_LEVEL - 1]}, and this version knows form {MAGIC[-1]}: use its own"
            raise StateError(msg)
        start = _start(_COUNT.unpack_from(data, _COUNT_AT)[0])
        length, checksum = _HEAD.unpack_from(data, start)
        text = data[start + _HEAD.size :][:length]
        if length and zlib.crc32(text) == checksum:
            with suppress(msgspec.DecodeError, RecursionError):
                return msgspec.json.decode(text, type=dict[str, Any]), data[_LEVEL]
    msg = "its state can't be read: it has not started yet"
    raise StateError(msg)


def write_level(fd: int, level: int) -> None:
    """Writes the byte of the level into an open file."""
    os.pwrite(fd, bytes([level]), _LEVEL)


def _start(count: int) -> int:
    return _FIRST + count % 2 * _COPY
