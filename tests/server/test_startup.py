"""A call in a child process while this one goes on, as a start makes one to read the settings."""

import os
import sys
from collections.abc import Callable

import pytest

from stator.server.startup import ForkedCall


def test_gives_what_the_function_returns_in_another_process() -> None:
    assert ForkedCall(os.getpid).result() != os.getpid()


def test_raises_the_exit_that_the_function_raised() -> None:
    with pytest.raises(SystemExit) as ended:
        ForkedCall(lambda: sys.exit(2)).result()
    assert ended.value.code == 2


@pytest.mark.parametrize("function", [lambda: 1 / 0, lambda: lambda: 0, lambda: os._exit(3)])
def test_gives_nothing_where_there_is_no_result(function: Callable[[], object]) -> None:
    assert ForkedCall(function).result() is None


def test_goes_on_without_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    assert ForkedCall(os.getpid).result() is None
