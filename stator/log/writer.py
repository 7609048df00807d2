"""Writes log lines to a file descriptor that may be closed, full or without a reader, and never fails the service."""

import os
import select
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeAlias

# How long one line may wait for room. A reader that is further behind loses lines.
WRITE_TIMEOUT_MS = 100
# The most bytes that one call writes of several lines.
BATCH_SIZE = 64 * 1024

# Writes what it can without waiting, and returns the number of bytes; raises BlockingIOError if there is no room.
Write: TypeAlias = Callable[[memoryview], int]


class Sink:
    """Writes lines to a file descriptor; never raises, and never waits longer than `WRITE_TIMEOUT_MS`.

    Lines that find no room are dropped and counted; a line reports the count as soon as there is room again.
    """

    def __init__(self, fd: int) -> None:
        self._write, self._poll_fd, self._batch_size = _open(fd)
        self._reset()
        # A child starts with empty buffers: unfinished lines and drop counts belong to the parent.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._is_writing = False
        self._queue: list[bytes] = []
        self._unfinished = b""
        self._dropped = 0
        self._buffering_thread = 0
        self._buffered: list[bytes] = []

    def msg(self, line: bytes) -> None:
        """Writes one line, its end included, or buffers it."""
        if threading.get_ident() == self._buffering_thread:
            self._buffered.append(line)
        else:
            self._put([line])

    debug = info = warning = error = critical = msg

    def buffer(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        """Buffers this thread's lines until an event loop's ``call_soon`` calls `flush`.

        One call writes all lines of a turn of the loop, before the loop waits for events.
        """
        if not self._buffering_thread:
            self._buffering_thread = threading.get_ident()
            call_soon(self.flush)

    def flush(self) -> None:
        """Writes the buffered lines, and ends buffering."""
        lines, self._buffered, self._buffering_thread = self._buffered, [], 0
        if lines:
            self._put(lines)

    def _put(self, lines: list[bytes]) -> None:
        with self._lock:
            self._queue += lines
            if self._is_writing:
                return  # a signal handler or a destructor interrupted this thread in the loop below, which goes on
            self._is_writing = True
            try:
                while self._queue:
                    count = _fitting(self._queue, self._batch_size)
                    batch = self._queue[:count]
                    del self._queue[:count]
                    self._write_batch(batch)
            finally:
                self._is_writing = False

    def _write_batch(self, lines: list[bytes]) -> None:
        """Writes lines by one call, and those that it left one by one."""
        written = 0
        if not (self._dropped or self._unfinished):
            with suppress(OSError):  # writing the first line raises it again
                data = b"".join(lines)
                written = self._write(memoryview(data))
                if written == len(data):
                    return
        for line in lines:
            if not written:
                self._write_line(line)
            elif written < len(line):
                self._unfinished = line[written:]
            written = max(0, written - len(line))
        if self._unfinished:
            self._push(self._unfinished)

    def _write_line(self, line: bytes) -> None:
        if self._dropped:
            line = _report(self._dropped) + line
        if self._unfinished and not self._push(self._unfinished):
            self._dropped += 1
        elif self._push(line) or self._unfinished:
            self._dropped = 0
        else:
            self._dropped += 1

    def _push(self, data: bytes) -> bool:
        """Writes all data and returns True, or keeps the rest of a line that was begun."""
        view = memoryview(data)
        timeout = 0 if self._dropped else WRITE_TIMEOUT_MS
        while view:
            try:
                view = view[self._write(view) :]
            except BlockingIOError:
                if not (timeout and self._has_room(timeout)):
                    break
                timeout = 0
            except OSError:
                break
        self._unfinished = bytes(view) if len(view) < len(data) or data is self._unfinished else b""
        return not view

    def _has_room(self, milliseconds: int) -> bool:
        poller = select.poll()
        poller.register(self._poll_fd, select.POLLOUT)
        return bool(poller.poll(milliseconds))


def _report(dropped: int) -> bytes:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f'{{"ts":"{now}Z","level":"warning","msg":"log lines were dropped","dropped":{dropped}}}\n'.encode()


def _fitting(lines: Sequence[bytes], size: int) -> int:
    """Returns how many of the first lines have at most `size` bytes together; at least 1."""
    for count, line in enumerate(lines):
        size -= len(line)
        if size < 0:
            return max(1, count)
    return len(lines)


def _open(fd: int) -> tuple[Write, int, int]:
    """Opens a descriptor for writing without waiting, which changes nothing for other processes that share it.

    Returns:
        A function that writes, the descriptor to poll, and how many bytes of several lines one call may write without
        mixing them with lines of other processes.
    """
    _reserve(fd)
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        peer = socket.socket(fileno=os.dup(fd))
        size = BATCH_SIZE if peer.type == socket.SOCK_STREAM else 0
        return lambda data: peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), peer.fileno(), size
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        # Opened again, since O_NONBLOCK on the inherited description would hold for the reader's shell too.
        with suppress(OSError):  # no reader, or another owner: writing to the inherited one fails, or works
            fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return lambda data: os.write(fd, data), fd, select.PIPE_BUF if stat.S_ISFIFO(mode) else BATCH_SIZE


def _reserve(fd: int) -> None:
    """Opens /dev/null for a closed descriptor, lest the next file or connection gets its number, and our lines."""
    try:
        os.fstat(fd)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        if null != fd:
            os.close(null)
