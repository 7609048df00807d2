"""A call in a child process while this one goes on, so that two share the work of a start."""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NoReturn, TypeVar

from stator.server.signals import end_with_parent

T = TypeVar("T")


class ForkedCall(Generic[T]):
    """A function's call in a child process, while this process goes on; begins at once."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._answer, write = os.pipe()
        parent = os.getpid()
        try:
            self._child = os.fork()
        except OSError:  # the answer is empty then
            self._child = 0
        else:
            if self._child == 0:
                _answer(function, parent, write)
        os.close(write)

    def result(self) -> T | None:
        """Waits for what the function returns; None if it raised an error, or returned what pickle can't take.

        Raises:
            SystemExit: The function raised it.
        """
        with os.fdopen(self._answer, "rb") as pipe:
            answer = pipe.read()
        if self._child:
            os.waitpid(self._child, 0)
        result: T | SystemExit | None = pickle.loads(answer) if answer else None  # noqa: S301 # our own child's
        if isinstance(result, SystemExit):
            raise result
        return result


def _answer(function: Callable[[], T], parent: int, write: int) -> NoReturn:
    try:
        end_with_parent(parent, signal.SIGKILL)
        result: T | SystemExit
        try:
            result = function()
        except SystemExit as ended:
            result = ended
        with suppress(OSError, AttributeError):  # stderr may be closed, or full
            sys.stderr.flush()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(pickle.dumps(result))
    finally:
        os._exit(0)
