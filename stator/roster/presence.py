"""Which of several processes is the last that serves: a lock that all of them share, and only one alone can have."""

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path


def lock_path(*what: object) -> Path:
    """Where the lock of those lies that serve the same: of one user's, in one network."""
    network = os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 # a link to what is no path
    told = repr((os.getuid(), network, *what)).encode()
    return Path(tempfile.gettempdir(), f"stator-{hashlib.sha256(told).hexdigest()[:16]}.lock")


class Presence:
    """One process among those that serve the same.

    The lock is the kernel's: whoever is killed has left. https://man7.org/linux/man-pages/man2/flock.2.html
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def come(self) -> None:
        """Joins the others; waits while one that took itself to be the last is still leaving.

        Raises:
            OSError: The lock can't be had.
        """
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def is_last(self) -> bool:
        """Whether there is nobody else; of those who leave at the same time one is told so. Others who come wait."""
        if self._fd is None:
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def leave(self) -> None:
        """Lets go of the lock; processes that were forked from this one hold it no more either."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = None
