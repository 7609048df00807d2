"""Whether other processes of this host serve the same service: known by a lock that all of them hold."""

import fcntl
import hashlib
import os
from pathlib import Path

# Its inode differs between network namespaces, as of containers that share a folder:
# https://man7.org/linux/man-pages/man7/namespaces.7.html
NETWORK = "/proc/self/ns/net"


class Membership:
    """One process of those that serve the same service, as one user and in one network namespace.

    The kernel drops the lock of a process that is killed. https://man7.org/linux/man-pages/man2/flock.2.html

    Args:
        folder: Where the lock file lies while a process serves.
        key: What identifies the service; its ``repr`` must be the same in all processes.
    """

    def __init__(self, folder: Path, *key: object) -> None:
        self._folder, self._key = folder, key
        self._fd: int | None = None
        self._is_last = False

    def join(self) -> None:
        """Takes the shared lock; blocks while a process that is the last one unregisters.

        Raises:
            OSError: The lock file can't be opened or locked.
        """
        fd = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            is_linked = self._is_at_path(fd)
        except OSError:
            os.close(fd)
            raise
        if is_linked:
            self._fd = fd
        else:
            os.close(fd)  # the last process removed the file while we waited
            self.join()

    def is_last(self) -> bool:
        """Whether this is the last process.

        If several leave at once, exactly one gets True; newcomers block until it has left.
        """
        if self._fd is None:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._is_last = True
        return True

    def leave(self) -> None:
        """Releases the lock, also for processes that were forked from this one; the last one removes the file."""
        if self._fd is not None:
            if self._is_last:
                self._path().unlink(missing_ok=True)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = None

    def _path(self) -> Path:
        identity = repr((os.getuid(), Path(NETWORK).stat().st_ino, *self._key)).encode()
        return self._folder / f"stator-{hashlib.sha256(identity).hexdigest()[:16]}.lock"

    def _is_at_path(self, fd: int) -> bool:
        try:
            return self._path().stat().st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            return False
