"""The program's command line, called as a user does."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
from attrs import frozen

from stator import __version__
from stator.config import Environment
from stator.settings import command_line


@frozen
class Answer:
    """What a command line wrote, and its exit status."""

    status: int
    out: str
    err: str


RunFlags: TypeAlias = Callable[..., Answer]


@pytest.fixture
def run_flags(capfd: pytest.CaptureFixture[str]) -> RunFlags:
    """Runs the program with flags that end it, or with an environment that does."""

    def run(*argv: str, env: Mapping[str, str] | None = None) -> Answer:
        with pytest.raises(SystemExit) as ended:
            command_line.load(
                Environment.of, prefix="STTR", about="about", version=__version__, argv=argv, environ=env or {}
            )
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, out, err)

    return run
