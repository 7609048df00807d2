"""Files that may change while the service runs, such as certificates and lists of users."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

INTERVAL = 1.0  # seconds between two looks whether a file has changed

_LOG = logging.getLogger(__name__)
_ALL: "WeakSet[WatchedFiles[Any]]" = WeakSet()


class WatchedFiles(Generic[T]):
    """What is loaded from some files, and loaded again when one of them changes. Thread-safe.

    While they can't be loaded, what was loaded last stays in use.
    """

    def __init__(self, load: Callable[[], T], paths: Iterable[str]) -> None:
        """Loads them; raises what `load` raises.

        `load` raises OSError or ValueError if it can't use the files.
        """
        self.paths, self._load, self._lock = tuple(paths), load, threading.Lock()
        self._versions, self._failure, self._is_reported = self._look(), "", False
        self._value = load()
        self._next_look = time.monotonic() + INTERVAL
        _ALL.add(self)

    def get(self) -> T:
        """Returns what the files hold, as of a second ago at most."""
        if time.monotonic() >= self._next_look and self._lock.acquire(blocking=False):
            try:
                self._load_if_changed()
            finally:
                self._lock.release()
        return self._value

    def read_again(self) -> bool:
        """Loads them at once if one has changed, and returns whether that succeeded; logs why not."""
        with self._lock:
            return self._load_if_changed(is_asked=True)

    def _load_if_changed(self, *, is_asked: bool = False) -> bool:
        self._next_look = time.monotonic() + INTERVAL
        # Before they are read: what changes in between is read the next time.
        versions = self._look()
        if versions == self._versions and not self._failure:
            return False
        try:
            value = self._load()
        except (OSError, ValueError) as error:
            if self._failure != str(error):
                self._failure, self._is_reported = str(error), False
                # A certificate and its key can't be replaced at the same moment: the next look reports the failure.
                if not is_asked:
                    return False
            if not self._is_reported:
                _LOG.warning("can't use the changed files %s, going on with the old ones: %s", self._names(), error)
            self._is_reported = True
            return False
        _LOG.log(logging.INFO if self._is_reported else logging.DEBUG, "read again what has changed: %s", self._names())
        self._value, self._versions, self._failure, self._is_reported = value, versions, "", False
        return True

    def _names(self) -> str:
        return ", ".join(self.paths)

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_version(path) for path in self.paths]


def read_all_again() -> list[str]:
    """Loads all watched files that have changed, at once, and returns their paths."""
    return sorted({path for each in list(_ALL) if each.read_again() for path in each.paths})


def _version(path: str) -> tuple[int, ...] | None:
    """Returns what differs after a file was changed or replaced; None where there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 # once a second, for each file
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
