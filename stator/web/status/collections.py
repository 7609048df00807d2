"""What came of each collector when it was last asked, whichever process of the service asked it."""

import os
from collections.abc import Iterable, Mapping

from stator.exporter import Collection
from stator.processes.service import PUBLISHED, ServiceProcesses

_NUMBERS = len(Collection._fields)
NEVER = Collection(0.0, success=False, seconds=0.0, points=0)
MOST = PUBLISHED // _NUMBERS  # collectors; of further ones nothing is known


class LastCollections:
    """The last collection of each collector; all processes of the service that have the same collectors share it."""

    def __init__(self, processes: ServiceProcesses, names: Iterable[str]) -> None:
        self._processes, self._names = processes, sorted(names)[:MOST]
        self._own: dict[str, Collection] = {}
        self._pid = 0  # of the process whose these are

    def report(self, collections: Mapping[str, Collection]) -> None:
        """Notes what came of collectors in a scrape."""
        if self._pid != os.getpid():  # its row may have been that of a worker which it replaces
            self._own, self._pid = {name: last or NEVER for name, last in self.latest().items()}, os.getpid()
        self._own |= {name: each for name, each in collections.items() if name in self._own}
        self._processes.publish([number for each in self._own.values() for number in each])

    def latest(self) -> dict[str, Collection | None]:
        """Returns the last collection of each collector; None where no process has asked it."""
        found: dict[str, Collection | None] = dict.fromkeys(self._names)
        for numbers in self._processes.published():
            for nth, name in enumerate(self._names):
                at, success, seconds, points = numbers[nth * _NUMBERS : (nth + 1) * _NUMBERS]
                last = found[name]
                if at and (last is None or at > last.at):
                    found[name] = Collection(at, bool(success), seconds, int(points))
        return found
