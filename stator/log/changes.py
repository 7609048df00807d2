"""What goes wrong again and again, told once."""

from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    """Where troubles are told."""

    def warning(self, event: str, **fields: object) -> object:
        """Tells of something that someone should look at."""

    def info(self, event: str, **fields: object) -> object:
        """Tells of something that is as it should be."""


class ChangeLog:
    """Logs what goes wrong when it begins or changes, and when it is over.

    Args:
        log: Where it is told.
        what: What can go wrong: ``filesystem``, ``group``.
    """

    def __init__(self, log: Log, what: str) -> None:
        self._log, self._what = log, what
        self._known: dict[str, str] = {}

    def update(self, reasons: Mapping[str, str]) -> None:
        """Takes all that is wrong now: the reason by name."""
        if reasons == self._known:
            return
        for name, reason in reasons.items():
            if self._known.get(name) != reason:
                self._log.warning("can't read from host", **{self._what: name, "reason": reason})
        for name in self._known.keys() - reasons.keys():
            self._log.info("can read from host again", **{self._what: name})
        self._known = dict(reasons)
