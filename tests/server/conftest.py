"""The program as a fixture: started as often as a test likes, and ended with all of its processes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from tests.captured_log import CapturedLog
from tests.program import MODULE, Program


class Starts(Protocol):
    """Starts the program with variables; in a folder that may hold modules of collectors."""

    def __call__(
        self,
        env: Mapping[str, str] | None = None,
        *,
        args: Sequence[str] = (),
        command: Sequence[str] = MODULE,
        stdout: int | None = None,
        modules: Mapping[str, str] | None = None,
    ) -> Program: ...


@pytest.fixture
def starts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starts]:
    with ExitStack() as running:

        def start(
            env: Mapping[str, str] | None = None,
            *,
            args: Sequence[str] = (),
            command: Sequence[str] = MODULE,
            stdout: int | None = None,
            modules: Mapping[str, str] | None = None,
        ) -> Program:
            folder = tmp_path_factory.mktemp("stator")
            for name, source in (modules or {}).items():
                (folder / f"{name}.py").write_text(source)
            return running.enter_context(Program(env or {}, folder, args=args, command=command, stdout=stdout))

        yield start


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as made:
        yield made
