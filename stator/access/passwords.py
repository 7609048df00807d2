"""Checks passwords against bcrypt hashes, one at a time, and remembers those that were right."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from hmac import compare_digest

from stator.settings.declare import StartError

SIGNIFICANT = 72  # bytes of a password; bcrypt takes no more, and htpasswd cuts off the rest
MOST_WAITING = 32  # who wait until their password is hashed


class Busy(Exception):  # noqa: N818 # an answer rather than an error
    """Too many wait until their password is hashed."""


class Passwords:
    """Checks users' passwords. Thread-safe.

    A hashing takes as long as a scrape, or longer. So there is one at a time, and of each user the digest of the right
    password is kept, under a key that no other process has.
    """

    def __init__(self, matches: Callable[[bytes, bytes], bool] | None = None) -> None:
        """Takes what returns whether a password has a hash; by default bcrypt."""
        self._matches = matches or _matches
        self._key, self._lock, self._waiting = os.urandom(32), threading.Lock(), threading.Semaphore(MOST_WAITING)
        self._right: dict[str, tuple[str, bytes]] = {}  # hashes with the digests of their passwords, by user

    def is_known(self, users: Mapping[str, str], name: str, password: bytes) -> bool:
        """Returns whether a user's password was right before; hashes nothing."""
        hashed, right = self._right.get(name, ("", b""))
        # It holds for as long as the user has the same hash.
        return hashed == users.get(name) and compare_digest(right, self._digest(password))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for those who came before, and is the context in which `is_right` may be called; raises Busy."""
        if not self._waiting.acquire(blocking=False):
            raise Busy
        try:
            with self._lock:
                yield
        finally:
            self._waiting.release()

    def is_right(self, users: Mapping[str, str], name: str, password: bytes) -> bool:
        """Returns whether a password is right, after hashing it."""
        hashed = users.get(name)
        # A user whom nobody knows takes as long, so that names can't be found out by the time.
        other = next(iter(users.values()))
        if not self._matches(password[:SIGNIFICANT], (hashed or other).encode()) or hashed is None:
            return False
        self._right[name] = hashed, self._digest(password)
        return True

    def _digest(self, password: bytes) -> bytes:
        return blake2b(password[:SIGNIFICANT], key=self._key).digest()


def check_bcrypt() -> None:
    """Imports what checks passwords; raises StartError where that can't be loaded."""
    try:
        import bcrypt  # noqa: F401
    except ImportError as error:
        msg = f"passwords can't be checked: {error}"
        raise StartError(msg) from error


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # a NUL, which older versions refuse
        return False
