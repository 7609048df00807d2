"""Filesystems are asked, and none that hangs is waited for."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stator.collectors.host.statvfs import MOST_THREADS, Figures, StatvfsPool
from tests.program import eventually

# Far beyond what a good answer takes, far below what a test may take.
SHORT, LONG = 0.3, 60.0


class Filesystems:
    """Stands in for the kernel: each filesystem whose path begins with ``/hung`` hangs until it is released."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.threads: set[int] = set()
        self._released = threading.Event()

    def statvfs(self, path: bytes) -> os.statvfs_result:
        self.asked.append(path)
        self.threads.add(threading.get_ident())
        if path.startswith(b"/hung"):
            self._released.wait(LONG)
        return os.statvfs("/")

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def kernel() -> Iterator[Filesystems]:
    kernel = Filesystems()
    yield kernel
    kernel.release()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


def good(count: int) -> list[bytes]:
    return [b"/good%d" % nth for nth in range(count)]


def hung(count: int) -> list[bytes]:
    return [b"/hung%d" % nth for nth in range(count)]


def answered(figures: dict[bytes, Figures]) -> list[bytes]:
    return sorted(path for path, said in figures.items() if isinstance(said, os.statvfs_result))


def test_those_that_answer_are_asked_by_one_thread_at_every_scrape(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    for _ in range(20):
        assert answered(survey.ask(good(5), LONG)) == good(5)
        # It may still be on its way back; then there would be two.
        eventually(lambda: survey._idle == 1)
    assert len(kernel.threads) == 1


def test_an_error_is_an_answer() -> None:
    assert isinstance(StatvfsPool().ask([b"/nowhere"], LONG)[b"/nowhere"], FileNotFoundError)


def test_nothing_to_ask_is_answered_by_nothing() -> None:
    assert StatvfsPool().ask([], LONG) == {}


def test_one_that_hangs_is_missing_and_the_rest_is_there(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    with within(LONG / 2):
        # On a busy machine it may take more than one go.
        assert eventually(lambda: answered(survey.ask([*hung(1), *good(5)], SHORT)) == good(5))


def test_one_that_hangs_is_not_asked_again_nor_waited_for(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    survey.ask([*hung(1), *good(1)], SHORT)
    with within(LONG / 2):
        assert answered(survey.ask([*hung(1), *good(1)], LONG)) == good(1)
    assert kernel.asked.count(b"/hung0") == 1


def test_one_that_comes_back_is_asked_again(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    assert answered(survey.ask(hung(1), SHORT)) == []
    kernel.release()
    assert eventually(lambda: answered(survey.ask(hung(1), LONG))) == hung(1)


def test_many_that_hang_do_not_hide_those_behind_them(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    assert eventually(lambda: answered(survey.ask([*hung(20), *good(3)], 2.0))) == good(3)


def test_threads_are_bounded_and_with_none_left_nothing_is_waited_for(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    eventually(lambda: survey.ask(hung(2 * MOST_THREADS), 1.0) or survey._threads == MOST_THREADS)
    assert len(kernel.threads) <= MOST_THREADS
    with within(LONG / 2):
        assert survey.ask(good(1), LONG) == {}


def test_threads_that_come_back_end_but_for_one(kernel: Filesystems) -> None:
    survey = StatvfsPool(kernel.statvfs)
    survey.ask([*hung(5), *good(5)], SHORT)
    kernel.release()
    eventually(lambda: survey._threads == survey._idle == 1)
    assert answered(survey.ask([*hung(5), *good(5)], LONG)) == [*good(5), *hung(5)]
