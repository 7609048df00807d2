"""Where log lines go: a file descriptor that may be closed, full or read by nobody, without harm to the service."""

import os
import select
import socket
import stat
import threading
from datetime import UTC, datetime
from typing import Protocol

# How long one line may wait for a reader that is a little behind. A reader that is further behind loses lines.
PATIENCE_MS = 100


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
        self._write, self._poll_fd = _open(fd)
        self._lock = threading.Lock()
        self._rest = b""
        self._dropped = 0
        os.register_at_fork(after_in_child=self._renew_lock)

    def msg(self, line: bytes) -> None:
        """Writes one line, its end included."""
        with self._lock:
            if self._dropped:
                line = _told(self._dropped) + line
            if self._rest and not self._push(self._rest):
                self._dropped += 1
            elif self._push(line):
                self._dropped = 0
            elif not self._rest:
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
                self._rest = b""
                return False
        self._rest = bytes(view) if len(view) < len(data) or data is self._rest else b""
        return not view

    def _room(self, milliseconds: int) -> bool:
        poller = select.poll()
        poller.register(self._poll_fd, select.POLLOUT)
        return bool(poller.poll(milliseconds))

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


def _told(dropped: int) -> bytes:
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f'{{"ts":"{now}Z","level":"warning","msg":"log lines were dropped","dropped":{dropped}}}\n'.encode()


def _open(fd: int) -> tuple[Write, int]:
    """A way to write to a descriptor without waiting, that changes nothing for others who share it."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            # Opened anew, since O_NONBLOCK on the inherited description would hold for the reader's shell too.
            fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        elif stat.S_ISSOCK(mode):
            peer = socket.socket(fileno=os.dup(fd))
            return lambda data: peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), peer.fileno()
    except OSError:
        pass  # closed, or not ours to open: writing as it is fails, or works, just as well
    return lambda data: os.write(fd, data), fd
