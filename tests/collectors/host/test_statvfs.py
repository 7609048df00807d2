"""Filesystems are asked how full they are, and none that hangs is waited for."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stator.collectors.host.statvfs import Figures, StatvfsPool
from tests.program import eventually

# Far beyond what a good answer takes, far below what a test may take.
SHORT, LONG = 0.3, 60.0


class Filesystems:
    """Stands in for the kernel: each filesystem whose path begins with ``/hung`` hangs until it is released."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._released = threading.Event()

    def statvfs(self, path: bytes) -> os.statvfs_result:
        self.asked.append(path)
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


def test_those_that_answer_are_there_at_every_scrape(kernel: Filesystems) -> None:
    pool = StatvfsPool(kernel.statvfs)
    for _ in range(20):
        assert answered(pool.statvfs_all(good(5), LONG)) == good(5)
    assert kernel.asked.count(b"/good0") == 20


def test_an_error_is_an_answer() -> None:
    assert isinstance(StatvfsPool().statvfs_all([b"/nowhere"], LONG)[b"/nowhere"], FileNotFoundError)


def test_without_paths_there_are_no_answers() -> None:
    assert StatvfsPool().statvfs_all([], LONG) == {}


def test_one_that_hangs_is_missing_and_the_rest_is_there(kernel: Filesystems) -> None:
    with within(LONG / 2):
        assert answered(StatvfsPool(kernel.statvfs).statvfs_all([*hung(1), *good(5)], 1.0)) == good(5)


def test_one_that_hangs_is_not_asked_again_nor_waited_for(kernel: Filesystems) -> None:
    pool = StatvfsPool(kernel.statvfs)
    pool.statvfs_all([*hung(1), *good(1)], SHORT)
    with within(LONG / 2):
        assert answered(pool.statvfs_all([*hung(1), *good(1)], LONG)) == good(1)
    assert kernel.asked.count(b"/hung0") == 1


def test_one_that_comes_back_is_asked_again(kernel: Filesystems) -> None:
    pool = StatvfsPool(kernel.statvfs)
    assert answered(pool.statvfs_all(hung(1), SHORT)) == []
    kernel.release()
    assert eventually(lambda: answered(pool.statvfs_all(hung(1), LONG))) == hung(1)


def test_many_that_hang_do_not_hide_those_behind_them(kernel: Filesystems) -> None:
    pool = StatvfsPool(kernel.statvfs)
    assert answered(pool.statvfs_all([*hung(100), *good(3)], 2.0)) == good(3)
    with within(LONG / 2):
        assert answered(pool.statvfs_all([*hung(100), *good(4)], LONG)) == good(4)


def test_one_that_hangs_keeps_one_thread_and_others_keep_none(kernel: Filesystems) -> None:
    before = threading.active_count()
    pool = StatvfsPool(kernel.statvfs)
    for _ in range(3):
        pool.statvfs_all([*hung(5), *good(20)], SHORT)
    eventually(lambda: threading.active_count() <= before + 5)
    kernel.release()
    eventually(lambda: threading.active_count() <= before)
    eventually(lambda: answered(pool.statvfs_all([*hung(5), *good(5)], LONG)) == [*good(5), *hung(5)])
