"""Which of several processes is the last that serves: a lock that all of them share, and only one alone can have."""

import fcntl
import hashlib
import os
from pathlib import Path

# Tells one network from another, where containers share a folder: https://man7.org/linux/man-pages/man7/namespaces.7.html
NETWORK = "/proc/self/ns/net"


class Membership:
    """One process among those that serve the same: of one user, in one network.

    The lock is the kernel's: whoever is killed has left. https://man7.org/linux/man-pages/man2/flock.2.html

    Args:
        folder: Where the lock's file lies as long as somebody serves.
        what: What is served, in whatever can be told from another by its text.
    """

    def __init__(self, folder: Path, *what: object) -> None:
        self._folder, self._what = folder, what
        self._fd: int | None = None
        self._alone = False

    def come(self) -> None:
        """Joins the others; waits while one that took itself to be the last is still leaving.

        Raises:
            OSError: The lock can't be had.
        """
        fd = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            is_kept = self._is_file_of(fd)
        except OSError:
            os.close(fd)
            raise
        if is_kept:
            self._fd = fd
        else:
            os.close(fd)  # the last one took it away while we waited
            self.come()

    def is_last(self) -> bool:
        """Whether there is nobody else; of those who leave at the same time one is told so. Others who come wait."""
        if self._fd is None:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self._alone = True
        return True

    def leave(self) -> None:
        """Lets go of the lock; processes that were forked from this one hold it no more either."""
        if self._fd is not None:
            if self._alone:
                self._path().unlink(missing_ok=True)
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = None

    def _path(self) -> Path:
        network = Path(NETWORK).stat().st_ino
        told = repr((os.getuid(), network, *self._what)).encode()
        return self._folder / f"stator-{hashlib.sha256(told).hexdigest()[:16]}.lock"

    def _is_file_of(self, fd: int) -> bool:
        try:
            return self._path().stat().st_ino == os.fstat(fd).st_ino
        except FileNotFoundError:
            return False
