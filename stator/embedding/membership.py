"""The processes that serve one service, and its keeper, which find each other by locks on one file.

Each process that serves holds a shared flock on the file, and the keeper holds a record lock on its first byte. The
kernel releases both, however a process ends. The file's content is the digest of the task that the keeper must have; a
keeper that has unregistered the service empties the file.
https://man7.org/linux/man-pages/man2/flock.2.html
"""

import fcntl
import hashlib
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stator.processes.service import weak_callback

# Its inode differs between network namespaces: https://man7.org/linux/man-pages/man7/namespaces.7.html
NETWORK = "/proc/self/ns/net"
# Seconds for which a process waits to join while a keeper unregisters, and seconds between two tries.
JOIN_TIMEOUT, JOIN_POLL = 10.0, 0.02
# Seconds between two changes of the file's times: what cleans temporary folders removes files unused for days.
TOUCH = 3600.0
# struct flock: type, whence, start, length, pid: https://man7.org/linux/man-pages/man2/fcntl_locking.2.html
_FLOCK = "hhqqi4x"


class Membership:
    """A process that serves, or the keeper; raises OSError where the file can't be opened or is another user's."""

    def __init__(self, path: Path) -> None:
        self._path, self._fd, self._task = path, -1, b""
        os.register_at_fork(after_in_child=weak_callback(self._close))

    def join(self, timeout: float = JOIN_TIMEOUT) -> None:
        """Takes the shared lock; waits while a keeper unregisters the service, or raises TimeoutError in the end."""
        deadline = time.monotonic() + timeout
        while True:
            self._fd = fd = open_own(self._path, os.O_CREAT)
            # A keeper that ended may have removed the file after it was opened.
            if self._try(fcntl.LOCK_SH) and is_at(self._path, fd):
                return
            self._close()
            if time.monotonic() >= deadline:
                msg = f"another process has locked {self._path} for {timeout:g} seconds"
                raise TimeoutError(msg)
            time.sleep(JOIN_POLL)

    def leave(self) -> bool:
        """Releases the lock; returns whether no other process serves."""
        if self._fd < 0:
            return False
        # Not only closed: a forked child has the same lock until, or unless, it runs its at-fork hooks.
        self.release()
        is_last = self._try(fcntl.LOCK_EX)
        if is_last and self.keeper() is None:
            self._path.unlink(missing_ok=True)
        # Otherwise the keeper has the exclusive lock, for a moment or for good, or others have shared ones.
        is_last = is_last or not self._try(fcntl.LOCK_SH) or self._try(fcntl.LOCK_EX)
        self.release()
        self._close()
        return is_last

    def keeper(self) -> int | None:
        """Returns the process id of the keeper: None without one, 0 for one in another PID namespace."""
        try:
            fd = self._fd if self._fd >= 0 else open_own(self._path)
        except FileNotFoundError:
            return None
        try:
            lock = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            type_, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, lock))
        finally:
            if fd != self._fd:
                os.close(fd)
        return None if type_ == fcntl.F_UNLCK else max(0, pid)

    @contextmanager
    def turn(self, timeout: float) -> Iterator[None]:
        """Lets one process at a time look for a keeper and start one; does not wait for another longer than that."""
        deadline = time.monotonic() + timeout
        while not self._try_record(1) and time.monotonic() < deadline:
            time.sleep(JOIN_POLL)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, 1)

    def request(self, task: bytes) -> bool:
        """Writes the digest of the task that the keeper must have; returns whether it was already requested."""
        if os.pread(self._fd, len(task), 0) == task:
            return True
        os.pwrite(self._fd, task, 0)
        return False

    def is_unregistered(self) -> bool:
        """Returns whether the last keeper has unregistered the service, and no other was requested."""
        return os.fstat(self._fd).st_size == 0

    def become_keeper(self, task: bytes) -> bool:
        """Takes the keeper's lock for a task with this digest; returns whether it was free."""
        self._fd, self._task = open_own(self._path), task
        return self._try_record(0) and is_at(self._path, self._fd)

    def is_replaced(self) -> bool:
        """Returns whether a process has requested a keeper with another task."""
        # Where the last keeper has emptied the file after the request for this one, nothing is requested.
        return os.pread(self._fd, len(self._task), 0) not in (self._task, b"")

    def is_abandoned(self) -> bool:
        """Returns whether no process serves; none can join either until the keeper calls `release` or `resign`."""
        if time.time() - os.fstat(self._fd).st_mtime > TOUCH:
            os.utime(self._fd)
        return self._try(fcntl.LOCK_EX)

    def release(self) -> None:
        """Releases the flock: processes can join again after `is_abandoned`."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def resign(self) -> None:
        """Releases the keeper's lock, and removes the file if no process serves."""
        if self._fd < 0:
            return
        if not self.is_replaced():
            os.ftruncate(self._fd, 0)
        if self._try(fcntl.LOCK_EX):
            self._path.unlink(missing_ok=True)
        self._close()

    def _try(self, lock: int) -> bool:
        try:
            fcntl.flock(self._fd, lock | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _try_record(self, byte: int) -> bool:
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def path_for(folder: Path, suffix: str, *key: object) -> Path:
    """Returns the path of a file that one user's processes share, for a key whose `repr` is the same in all of them."""
    identity = repr((os.geteuid(), Path(NETWORK).stat().st_ino, *key)).encode()
    return folder / f"stator-{hashlib.sha256(identity).hexdigest()[:16]}{suffix}"


def open_own(path: Path, flags: int = 0) -> int:
    """Opens a file for reading and writing; raises OSError also if it belongs to another user."""
    fd = os.open(path, flags | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    found = os.fstat(fd)
    if found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode):
        return fd
    os.close(fd)
    msg = f"{path} " + ("belongs to another user" if stat.S_ISREG(found.st_mode) else "is not a file")
    raise PermissionError(msg)


def is_at(path: Path, fd: int) -> bool:
    """Returns whether an open file still lies at a path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
