"""Logs a condition when it changes, since what is checked every few seconds may fail for hours."""

import re
import threading
from collections.abc import Mapping

from stator.log.logger import Log
from stator.log.render import safely

# Counts, times and addresses in a message differ each time, which is no change.
_DIGITS = re.compile(r"\d+")


def error_fields(error: BaseException, *expected: type[BaseException]) -> dict[str, object]:
    """Returns the field that describes an error: its message as `reason`, or itself as `error`, with its traceback.

    Args:
        error: The error.
        expected: Types of errors whose message is enough.
    """
    return {"reason": safely(str, error)} if isinstance(error, expected) else {"error": error}


class ChangeLog:
    """Logs problems of named subjects when they begin, when their reason changes, and when they are over. Thread-safe.

    Args:
        log: The logger.
        subject: Name of the field that names the subject: `check`, `collector`, `filesystem`.
        begins: Message when a problem begins, or its reason changes.
        ends: Message when it is over, at level `info`.
        level: Level of `begins`.
        expected: Types of errors whose message is enough; others are logged with their traceback.
    """

    def __init__(
        self,
        log: Log,
        subject: str,
        begins: str,
        ends: str,
        *,
        level: str = "warning",
        expected: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._log, self._subject, self._level = log, subject, level
        self._begins, self._ends, self._expected = begins, ends, expected
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def report(self, name: str, problem: BaseException | str | None) -> None:
        """Logs the state of one subject if it has changed; None is no problem."""
        with self._lock:
            before = self._known.get(name)
            now = None if problem is None else _kind(problem)
            if now == before:
                return
            if now is None:
                del self._known[name]
            else:
                self._known[name] = now
        if problem is None:
            self._log.info(self._ends, **{self._subject: name})
            return
        fields = {"reason": problem} if isinstance(problem, str) else error_fields(problem, *self._expected)
        getattr(self._log, self._level)(self._begins, **{self._subject: name}, **fields)

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
