"""The program's command line, asked as a user does."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
from attrs import frozen

from stator import __version__
from stator.config import Config
from stator.settings import command_line


@frozen
class Answer:
    """What a command line was answered with."""

    status: int
    out: str
    err: str


Ask: TypeAlias = Callable[..., Answer]


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Ask:
    """Gives the program flags that end it, or an environment that does."""

    def run(*argv: str, env: Mapping[str, str] | None = None) -> Answer:
        with pytest.raises(SystemExit) as ended:
            command_line.load(Config, prefix="STTR", about="about", version=__version__, argv=argv, environ=env or {})
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, out, err)

    return run
