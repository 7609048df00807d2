"""Writes log lines to a file descriptor that may be closed, full or without a reader, and never fails the service."""

import os
import select
import socket
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

# How long one line may wait for room. A reader that is further behind loses lines.
WRITE_TIMEOUT_MS = 100


class Sink:
    """Writes lines to a file descriptor; never raises, and never waits longer than `WRITE_TIMEOUT_MS`.

    Lines that find no room are dropped and counted; a line reports the count as soon as there is room again.
    """

    def __init__(self, fd: int) -> None:
        self._write, self._poll_fd = _open(fd)
        self._reset()
        # A child starts with empty buffers: unfinished lines and drop counts belong to the parent.
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._is_writing = False
        self._queue: list[bytes] = []
        self._unfinished = b""
        self._dropped = 0

    def msg(self, line: bytes) -> None:
        """Writes one line, its end included."""
        with self._lock:
            self._queue.append(line)
            if self._is_writing:
                return  # a signal handler or a destructor interrupted this thread in the loop below, which goes on
            self._is_writing = True
            try:
                while self._queue:
                    self._write_line(self._queue.pop(0))
            finally:
                self._is_writing = False

    debug = info = warning = error = critical = msg

    def _write_line(self, line: bytes) -> None:
        if self._dropped:
            now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
            report = f'{{"ts":"{now}Z","level":"warning","msg":"log lines were dropped","dropped":{self._dropped}}}\n'
            line = report.encode() + line
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


def _open(fd: int) -> tuple[Callable[[memoryview], int], int]:
    """Returns a function that writes what fits, or raises BlockingIOError, and the descriptor to poll."""
    # Nothing changes for other processes that share the descriptor.
    try:
        mode = os.fstat(fd).st_mode
    except OSError:  # it is closed, and the next file or connection would get its number, and our lines
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        if null != fd:
            os.close(null)
        mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        peer = socket.socket(fileno=os.dup(fd))
        return lambda data: peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), peer.fileno()
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        # Opened again, since O_NONBLOCK on the inherited description would hold for the reader's shell too.
        with suppress(OSError):  # no reader, or another owner: writing to the inherited one fails, or works
            fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return lambda data: os.write(fd, data), fd
