"""How full filesystems are, without waiting for those that hang, as a dead network filesystem does."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

from stator.concurrency.gather import gather
from stator.concurrency.single_flight import SingleFlight
from stator.concurrency.threads import DaemonThreads

Figures: TypeAlias = os.statvfs_result | OSError
"""What statvfs(3) returns for a filesystem, or the error that it raises."""


class StatvfsPool:
    """Calls statvfs(3) in threads; one that hangs keeps its thread, and is not called again until it returns."""

    def __init__(self, statvfs: Callable[[bytes], os.statvfs_result] = os.statvfs) -> None:
        self._statvfs = statvfs
        self._flights: SingleFlight[bytes, os.statvfs_result] = SingleFlight(DaemonThreads().run)

    def statvfs_all(self, paths: Iterable[bytes], timeout: float) -> dict[bytes, Figures]:
        """Returns the figures of filesystems by path; those that don't return within so many seconds are missing."""
        outcomes = gather(self._flights, {path: partial(self._statvfs, path) for path in paths}, timeout)
        figures = {path: outcome.value or outcome.error for path, outcome in outcomes.items()}
        return {path: each for path, each in figures.items() if isinstance(each, os.statvfs_result | OSError)}
