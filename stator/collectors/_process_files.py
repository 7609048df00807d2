"""The families of all processes of an application, out of the files in which prometheus_client keeps their values."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import define, field

from stator.log.changes import ChangeLog

if TYPE_CHECKING:
    from prometheus_client import Metric


@define(eq=False, repr=False)
class ProcessFiles:
    """The files in a folder, one or more for each process; those that can't be read are left out, and logged once."""

    folder: str
    changes: ChangeLog
    _bad: dict[str, str] = field(factory=dict, init=False)  # why each file that was left out can't be read

    def collect(self) -> Iterable["Metric"]:
        """Returns the families of all files that can be read; raises OSError where the folder can't be."""
        names = sorted(os.listdir(self.folder))  # noqa: PTH208 # only the names are needed
        paths = [f"{self.folder}/{name}" for name in names if name.endswith(".db") and name[0] != "."]
        self._bad = _unreadable([path for path in paths if path in self._bad])
        try:
            families = _merged([path for path in paths if path not in self._bad])
        except Exception:  # noqa: BLE001 # half a file may be taken for anything
            self._bad = _unreadable(paths)
            families = _merged([path for path in paths if path not in self._bad])
        self.changes.update(self._bad)
        return families


def _unreadable(paths: Iterable[str]) -> dict[str, str]:
    """Returns why each file that can't be read can't be."""
    reasons: dict[str, str] = {}
    for path in paths:
        size = 0
        try:
            size = os.path.getsize(path)  # noqa: PTH202 # as it was listed
            _merged([path])
        except OSError as error:
            reasons[path] = error.strerror or str(error)
        except Exception as error:  # noqa: BLE001 # as above
            reasons[path] = f"it's damaged, or another program's ({error})" if size else "it's empty"
    return reasons


def _merged(paths: Sequence[str]) -> Iterable["Metric"]:
    from prometheus_client.multiprocess import MultiProcessCollector

    families: Iterable[Metric] = MultiProcessCollector.merge(paths)  # type: ignore[no-untyped-call] # it has no types
    return families
