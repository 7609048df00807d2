"""What tests of wrapped programs share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from tests.program import MODULE, Program


class Wraps(Protocol):
    """Starts Stator around a command; `stator` is how Stator itself is started."""

    def __call__(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, *, stator: Sequence[str] = MODULE
    ) -> Program: ...


@pytest.fixture
def wraps(tmp_path: Path) -> Iterator[Wraps]:
    started: list[Program] = []

    def start(
        command: Sequence[str], env: Mapping[str, str] | None = None, *, stator: Sequence[str] = MODULE
    ) -> Program:
        program = Program(env or {}, tmp_path, args=("--", *command), command=stator)
        started.append(program)
        return program

    yield start
    for each in started:
        # What a failed test leaves runs in sessions of its own.
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(each.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        each.kill()
