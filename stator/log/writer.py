"""Where log lines go: a file descriptor that may be closed, full or read by nobody, without harm to the service."""

import os
import select
import socket
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import accumulate, takewhile
from typing import Protocol

# How long one line may wait for a reader that is a little behind. A reader that is further behind loses lines.
PATIENCE_MS = 100
# Bytes of several lines that are written at once at most.
MOST = 64 * 1024


class Write(Protocol):
    """A way to write to a descriptor."""

    def __call__(self, data: memoryview, /) -> int:
        """Writes what it can without waiting, and tells how many bytes that was.

        Raises:
            BlockingIOError: Nothing can be written now.
            OSError: Nothing can be written any more.
        """


class Sink:
    """Writes lines to a file descriptor; never raises, and never waits longer than `PATIENCE_MS`.

    Lines that find no room are dropped and counted; the count is told in a line as soon as there is room again.
    """

    def __init__(self, fd: int) -> None:
        self._write, self._poll_fd, self._most = _open(fd)
        self._begin()
        # What was begun, held or dropped before a fork is the parent's to finish and to tell.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._rest = b""
        self._dropped = 0
        self._holder = self._writer = 0
        self._held: list[bytes] = []
        self._queue: list[bytes] = []

    def msg(self, line: bytes) -> None:
        """Writes one line, its end included, or holds it."""
        thread = threading.get_ident()
        if thread == self._holder:
            self._held.append(line)
        elif thread == self._writer:
            # Writing was broken into, by a signal's handler or the end of an object, and what broke into it logs.
            self._queue.append(line)
        else:
            self._put([line], thread)

    def hold(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        """Holds the lines of this thread, and writes them together when ``call_soon`` calls.

        That is, of an event loop, when all that is to be done now is done: before anything is waited for.
        """
        if not self._holder:
            self._holder = threading.get_ident()
            call_soon(self.let_go)

    def let_go(self) -> None:
        """Writes what is held, and holds no more."""
        lines, self._held, self._holder = self._held, [], 0
        if lines:
            self._put(lines, threading.get_ident())

    def _put(self, lines: list[bytes], thread: int) -> None:
        with self._lock:
            self._queue, self._writer = lines, thread
            try:
                while lines:
                    count = _fitting(lines, self._most)
                    self._lines(lines[:count])
                    del lines[:count]
            finally:
                self._writer = 0

    def _lines(self, lines: list[bytes]) -> None:
        """Writes some lines by one call, and what is left of them one by one."""
        taken = 0
        if not (self._dropped or self._rest):
            with suppress(OSError):  # the first line that is left meets it again
                data = b"".join(lines)
                taken = self._write(memoryview(data))
                if taken == len(data):
                    return
        for line in lines:
            if 0 < taken < len(line):
                self._rest = line[taken:]
            elif not taken:
                self._line(line)
            taken = max(0, taken - len(line))
        if self._rest:
            self._push(self._rest)

    def _line(self, line: bytes) -> None:
        if self._dropped:
            line = _told(self._dropped) + line
        if self._rest and not self._push(self._rest):
            self._dropped += 1
        elif self._push(line) or self._rest:
            self._dropped = 0
        else:
            self._dropped += 1

    debug = info = warning = error = critical = exception = msg

    def _push(self, data: bytes) -> bool:
        """Writes all of it, or remembers what is left of a line that was begun."""
        view = memoryview(data)
        patience = 0 if self._dropped else PATIENCE_MS
        while view:
            try:
                view = view[self._write(view) :]
            except BlockingIOError:
                if not (patience and self._room(patience)):
                    break
                patience = 0
            except OSError:
                break
        self._rest = bytes(view) if len(view) < len(data) or data is self._rest else b""
        return not view

    def _room(self, milliseconds: int) -> bool:
        poller = select.poll()
        poller.register(self._poll_fd, select.POLLOUT)
        return bool(poller.poll(milliseconds))


def _told(dropped: int) -> bytes:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f'{{"ts":"{now}Z","level":"warning","msg":"log lines were dropped","dropped":{dropped}}}\n'.encode()


def _fitting(lines: Sequence[bytes], most: int) -> int:
    """How many of these lines have so many bytes at most together; one in any case."""
    if sum(map(len, lines)) <= most:
        return len(lines)
    sizes = accumulate(map(len, lines))
    return max(1, sum(1 for _ in takewhile(most.__ge__, sizes)))


def _open(fd: int) -> tuple[Write, int, int]:
    """A way to write to a descriptor without waiting, that changes nothing for others who share it.

    Returns:
        It, the descriptor to wait for, and how many bytes of several lines may be written by one call, and not be mixed
        with what others write.
    """
    _keep(fd)
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        peer = socket.socket(fileno=os.dup(fd))
        most = MOST if peer.type == socket.SOCK_STREAM else 0
        return lambda data: peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), peer.fileno(), most
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        # Opened anew, since O_NONBLOCK on the inherited description would hold for the reader's shell too.
        with suppress(OSError):  # no longer read, or not ours to open: writing as it is fails, or works, just as well
            fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return lambda data: os.write(fd, data), fd, select.PIPE_BUF if stat.S_ISFIFO(mode) else MOST


def _keep(fd: int) -> None:
    """Has a closed descriptor lead nowhere, lest the next file or connection gets its number, and our lines."""
    try:
        os.fstat(fd)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, fd)
        if nowhere != fd:
            os.close(nowhere)
