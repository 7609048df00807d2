"""What tests of wrapped programs share."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

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
        each.kill()
