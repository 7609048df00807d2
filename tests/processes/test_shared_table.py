"""Numbers that processes share: what is read was written at once, whatever happens to the writer."""

import os
import signal
import time

import pytest

from stator.processes.shared_table import Table
from tests.program import eventually


def test_rows_begin_with_zeros_and_hold_what_was_written() -> None:
    table = Table(3, 2)
    assert [table.read(row) for row in range(3)] == [(0.0, 0.0)] * 3
    table.write(1, (1.5, -2.5))
    table.write(2, (3.0, 4.0))
    table.write(1, (5.0, float("inf")))
    assert [table.read(row) for row in range(3)] == [(0.0, 0.0), (5.0, float("inf")), (3.0, 4.0)]


def test_a_row_of_another_length_is_refused_and_changes_nothing() -> None:
    table = Table(1, 2)
    with pytest.raises(ValueError, match="2 values, not 3"):
        table.write(0, (1, 2, 3))
    assert table.read(0) == (0.0, 0.0)


def test_a_row_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(IndexError):
        Table(2, 1).write(2, (1,))


def test_whoever_is_forked_shares_it() -> None:
    table = Table(1, 1)
    child = os.fork()
    if child == 0:
        table.write(0, (42,))
        os._exit(0)
    os.waitpid(child, 0)
    assert table.read(0) == (42.0,)


def test_readers_see_all_values_of_one_writing_also_when_the_writer_is_killed_in_the_middle() -> None:
    columns = 40
    table = Table(2, columns)
    for killed in range(20):
        child = os.fork()
        if child == 0:
            number = 0
            while True:
                number += 1
                table.write(1, (killed * 1e9 + number,) * columns)
        try:
            before = table.read(1)
            eventually(lambda before=before: table.read(1) != before)  # type: ignore[misc]
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                assert len(set(table.read(1))) == 1
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert len(set(table.read(1))) == 1
    assert table.read(0) == (0.0,) * columns
    table.write(1, (1.0,) * columns)
    assert table.read(1) == (1.0,) * columns
