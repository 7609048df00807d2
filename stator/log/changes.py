"""Logs a condition when it changes, since what is checked every few seconds may fail for hours."""

import re
import threading
from collections.abc import Mapping

from attrs import define, field

from stator.log.logger import Log
from stator.log.render import safely

# Counts, times and addresses in a message differ each time, which is no change.
_DIGITS = re.compile(r"0x[0-9a-f]+|\d+")


def error_fields(error: BaseException, *expected: type[BaseException]) -> dict[str, object]:
    """Returns the field of an error: its message as `reason` if its type is expected, else itself as `error`."""
    return {"reason": safely(str, error)} if isinstance(error, expected) else {"error": error}


@define(eq=False, repr=False)
class ChangeLog:
    """Logs problems of named subjects when they begin, when their reason changes, and when they end. Thread-safe."""

    log: Log
    subject: str  # the field that names the subject: check, collector, filesystem
    begins: str  # the message when a problem begins, or its reason changes
    ends: str  # the message when it is over, at level info
    level: str = field(default="warning", kw_only=True)  # of `begins`
    # Types of errors whose message is enough; others are logged with their traceback.
    expected: tuple[type[BaseException], ...] = field(default=(), kw_only=True)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _known: dict[str, str] = field(factory=dict, init=False)

    def report(self, name: str, problem: BaseException | str | None) -> None:
        """Logs the state of one subject if it has changed; None is no problem."""
        now = None if problem is None else _kind(problem)
        with self._lock:
            before = self._known.pop(name, None)
            if now is not None:
                self._known[name] = now
        if now == before:
            return
        if problem is None:
            self.log.info(self.ends, **{self.subject: name})
        else:
            fields = {"reason": problem} if isinstance(problem, str) else error_fields(problem, *self.expected)
            getattr(self.log, self.level)(self.begins, **{self.subject: name}, **fields)

    def update(self, problems: Mapping[str, BaseException | str]) -> None:
        """Logs what has changed of all subjects; those that are left out have no problem."""
        with self._lock:
            over = self._known.keys() - problems.keys()
        for name, problem in problems.items():
            self.report(name, problem)
        for name in sorted(over):
            self.report(name, None)


def _kind(problem: BaseException | str) -> str:
    text = problem if isinstance(problem, str) else f"{type(problem).__qualname__}: {safely(str, problem)}"
    return _DIGITS.sub("", text)
