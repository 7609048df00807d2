"""Processes share numbers; readers see whole rows, whatever happens to the writer."""

import os
import signal
import time

import pytest

from stator.processes.shared_table import SharedTable
from tests.program import eventually


def test_rows_have_zeros_and_then_what_was_written() -> None:
    table = SharedTable(3, 2)
    assert [table.read(row) for row in range(3)] == [(0.0, 0.0)] * 3
    table.write(1, (1.5, -2.5))
    table.write(2, (3.0, 4.0))
    table.write(1, (5.0, float("inf")))
    assert [table.read(row) for row in range(3)] == [(0.0, 0.0), (5.0, float("inf")), (3.0, 4.0)]


def test_values_of_another_number_are_rejected_and_change_nothing() -> None:
    table = SharedTable(1, 2)
    with pytest.raises(ValueError, match="2 values, not 3"):
        table.write(0, (1, 2, 3))
    assert table.read(0) == (0.0, 0.0)


def test_a_row_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(IndexError):
        SharedTable(2, 1).write(2, (1,))


def test_a_child_shares_the_table() -> None:
    table = SharedTable(1, 1)
    child = os.fork()
    if child == 0:
        table.write(0, (42,))
        os._exit(0)
    os.waitpid(child, 0)
    assert table.read(0) == (42.0,)


def test_readers_see_all_values_of_one_write_though_the_writer_is_killed_in_the_middle() -> None:
    columns = 40
    table = SharedTable(2, columns)
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
