"""Whatever stdout is, a line is written whole or not at all, soon, and without harm."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stator.log.writer import PATIENCE_MS, Sink
from tests.program import ROOT, eventually

LINE = b'{"msg":"hello"}\n'
# Longer than it should ever take, shorter than anybody would wait.
SOON = 2.0


class Pipe:
    """A pipe whose reader reads only when told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def drain(self) -> bytes:
        """All that is in it now."""
        return drain(self.reader)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def drain(fd: int) -> bytes:
    read = b""
    while select.select([fd], [], [], 0)[0] and (part := os.read(fd, 1 << 20)):
        read += part
    return read


def numbered(number: int, length: int = 1000) -> bytes:
    return json.dumps({"n": number, "filling": "x" * length}).encode() + b"\n"


def numbers(written: bytes) -> list[int]:
    """The numbers of the lines that came, each of which must be whole; what is told of drops is left out."""
    return [line["n"] for line in map(json.loads, written.splitlines()) if "n" in line]


def dropped(written: bytes) -> int:
    return sum(line.get("dropped", 0) for line in map(json.loads, written.splitlines()))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def test_a_line_is_written_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        Sink(file.fileno()).msg(LINE)
    assert (tmp_path / "log").read_bytes() == LINE


def test_lines_are_appended_to_a_file_that_others_write_to(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        sink = Sink(file.fileno())
        sink.msg(LINE)
        with (tmp_path / "log").open("ab") as other:
            other.write(b"theirs\n")
        sink.msg(LINE)
    assert (tmp_path / "log").read_bytes() == LINE + b"theirs\n" + LINE


def test_a_pipe_that_is_read_gets_every_line(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    for number in range(3):
        sink.msg(numbered(number))
    assert numbers(pipe.drain()) == [0, 1, 2]


def test_a_pipe_that_nobody_reads_delays_nobody(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    start = time.monotonic()
    for number in range(5000):
        sink.msg(numbered(number))
    assert time.monotonic() - start < SOON


def test_what_is_dropped_is_counted_and_told_as_soon_as_there_is_room(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    for number in range(500):
        sink.msg(numbered(number))
    before = pipe.drain()
    for number in range(500, 503):
        sink.msg(numbered(number))
    written = before + pipe.drain()
    assert numbers(written)[-3:] == [500, 501, 502]
    assert len(numbers(written)) + dropped(written) == 503
    assert written.count(b"log lines were dropped") == 1


def test_no_line_is_left_half_written_however_often_the_pipe_is_full(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    written = b""
    for number in range(400):
        # Lines of every length, so that the pipe gets full in the midst of many of them.
        sink.msg(numbered(number, 100 + number * 37 % 9000))
        if number % 60 == 59:
            written += pipe.drain()
    written += pipe.drain()
    sink.msg(numbered(400))
    written += pipe.drain()
    came = numbers(written)
    assert came == sorted(set(came))
    assert len(came) + dropped(written) == 401
    assert dropped(written) > 0


class Turns:
    """An event loop's turns, of which each ends when told to."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()


def test_lines_that_are_held_are_written_in_order_at_the_end_of_the_turn(pipe: Pipe) -> None:
    sink, turns = Sink(pipe.writer), Turns()
    for turn in range(3):
        for number in range(10):
            sink.hold(turns.call_soon)
            sink.msg(numbered(10 * turn + number))
        assert pipe.drain() == b""
        turns.end()
        assert numbers(pipe.drain()) == list(range(10 * turn, 10 * turn + 10))
    sink.msg(LINE)
    assert pipe.drain() == LINE


def test_held_lines_can_be_let_go_before_the_turn_ends(pipe: Pipe) -> None:
    sink, turns = Sink(pipe.writer), Turns()
    sink.hold(turns.call_soon)
    sink.msg(numbered(1))
    sink.let_go()
    assert numbers(pipe.drain()) == [1]
    sink.msg(numbered(2))
    assert numbers(pipe.drain()) == [2]
    turns.end()
    assert pipe.drain() == b""


@pytest.fixture
def interrupted() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Has a call break into this thread shortly."""

    def interrupt(call: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_MS / 3000)

    before = signal.getsignal(signal.SIGALRM)
    yield interrupt
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("held", [False, True])
def test_who_breaks_into_the_writing_of_a_line_may_log_too(
    pipe: Pipe, interrupted: Callable[[Callable[[], object]], None], *, held: bool
) -> None:
    sink, turns = Sink(pipe.writer), Turns()
    os.set_blocking(pipe.writer, False)
    os.write(pipe.writer, b"\n" * (1 << 20))  # as much as there is room for
    written = b""

    def interrupt() -> None:
        nonlocal written
        sink.msg(numbered(1))
        written += pipe.drain()

    if held:
        sink.hold(turns.call_soon)
        sink.msg(numbered(0))
    interrupted(interrupt)
    turns.end() if held else sink.msg(numbered(0))
    sink.msg(numbered(2))
    written += pipe.drain()
    assert numbers(written.lstrip(b"\n")) == [0, 1, 2]


def test_lines_of_other_threads_are_not_held(pipe: Pipe) -> None:
    sink, turns = Sink(pipe.writer), Turns()
    sink.hold(turns.call_soon)
    sink.msg(numbered(1))
    other = threading.Thread(target=sink.msg, args=(numbered(2),))
    other.start()
    other.join()
    assert numbers(pipe.drain()) == [2]
    turns.end()
    assert numbers(pipe.drain()) == [1]


@pytest.mark.parametrize("held", [1, 2, 7, 40])
def test_no_held_line_is_left_half_written_however_often_there_is_no_room(held: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        sink, turns = Sink(ours.fileno()), Turns()
        written = b""
        for number in range(400):
            sink.hold(turns.call_soon)
            sink.msg(numbered(number, 100 + number * 37 % 9000))
            if number % held == 0:
                turns.end()
            if number % 60 == 59:
                written += drain(theirs.fileno())
        turns.end()
        written += drain(theirs.fileno())
        sink.msg(numbered(400))
        written += drain(theirs.fileno())
    came = numbers(written)
    assert came == sorted(set(came))
    assert len(came) + dropped(written) == 401
    assert dropped(written) > 0


def test_held_lines_of_several_processes_are_not_mixed() -> None:
    reader, writer = os.pipe()
    children = []
    for child in range(3):
        if pid := os.fork():
            children.append(pid)
            continue
        sink, turns = Sink(writer), Turns()
        for number in range(300):
            sink.hold(turns.call_soon)
            sink.msg(numbered(1000 * child + number, 700))
            if number % 9 == 8:
                turns.end()
        turns.end()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        written = pipe.read()
    for pid in children:
        os.waitpid(pid, 0)
    came = numbers(written)
    assert len(came) == len(set(came))
    assert len(came) + dropped(written) == 900
    assert len(came) > 500


def test_a_child_leaves_held_lines_to_its_parent(pipe: Pipe) -> None:
    sink, turns = Sink(pipe.writer), Turns()
    sink.hold(turns.call_soon)
    sink.msg(numbered(1))
    if not (pid := os.fork()):
        sink.msg(numbered(2))
        turns.end()
        os._exit(0)
    os.waitpid(pid, 0)
    assert numbers(pipe.drain()) == [2]
    turns.end()
    assert numbers(pipe.drain()) == [1]


def test_a_line_longer_than_the_pipe_is_read_whole_in_the_end(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    sink.msg(numbered(0, 300_000))
    written = pipe.drain()
    for _ in range(10):
        sink.msg(LINE)
        written += pipe.drain()
    assert numbers(written) == [0]


def test_a_reader_that_is_a_little_behind_gets_all(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    written = b""
    done = threading.Event()

    def read() -> None:
        nonlocal written
        while not done.is_set() or select.select([pipe.reader], [], [], 0)[0]:
            if select.select([pipe.reader], [], [], 0.01)[0]:
                written += os.read(pipe.reader, 4000)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1000):
        sink.msg(numbered(number))
    done.set()
    reader.join()
    assert numbers(written) == list(range(1000))


def test_the_pipe_stays_blocking_for_those_who_share_it(pipe: Pipe) -> None:
    Sink(pipe.writer).msg(LINE)
    assert os.get_blocking(pipe.writer)


def test_a_pipe_whose_reader_went_away_harms_nobody() -> None:
    reader, writer = os.pipe()
    sink = Sink(writer)
    os.close(reader)
    late = Sink(writer)
    start = time.monotonic()
    for _ in range(1000):
        sink.msg(LINE)
        late.msg(LINE)
    os.close(writer)
    assert time.monotonic() - start < SOON


def test_a_full_disk_harms_nobody() -> None:
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        sink = Sink(full.fileno())
        for _ in range(1000):
            sink.msg(LINE)


def test_a_closed_descriptor_swallows_all_and_its_number_is_not_taken_by_another_file(tmp_path: Path) -> None:
    program = """
import os
from stator.log.writer import Sink
os.close(1)
sink = Sink(1)
others = [os.open("other", os.O_WRONLY | os.O_CREAT) for _ in range(3)]
sink.msg(b"line\\n")
assert 1 not in others
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, timeout=10)
    assert (tmp_path / "other").read_bytes() == b""


def test_a_socket_gets_lines_and_one_that_is_full_or_closed_harms_nobody() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            sink = Sink(ours.fileno())
            sink.msg(LINE)
            assert theirs.recv(1000) == LINE
            start = time.monotonic()
            for number in range(5000):
                sink.msg(numbered(number))
            assert time.monotonic() - start < SOON
            assert ours.getblocking()
        sink.msg(LINE)
    os.close(sink._poll_fd)


def test_a_terminal_that_was_stopped_delays_nobody() -> None:
    leader, follower = pty.openpty()
    try:
        sink = Sink(follower)
        start = time.monotonic()
        for number in range(1000):
            sink.msg(numbered(number))
        assert time.monotonic() - start < SOON
    finally:
        os.close(leader)
        os.close(follower)


def test_a_child_does_not_wait_for_a_lock_that_another_thread_held_at_its_fork(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    with sink._lock:
        pid = os.fork()
        if pid == 0:
            sink.msg(b'{"n":1}\n')
            os._exit(0)
    ended = eventually(lambda: os.waitpid(pid, os.WNOHANG)[0], within=5)
    assert ended == pid
    assert numbers(pipe.drain()) == [1]


def test_a_child_leaves_it_to_its_parent_to_finish_a_line_and_to_tell_of_drops(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    for number in range(100):
        sink.msg(numbered(number, 5000))
    written = pipe.drain()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if sink._rest == b"" and sink._dropped == 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    sink.msg(numbered(100))
    assert dropped(written + pipe.drain()) > 0


def test_lines_of_many_threads_are_not_mixed(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    os.set_blocking(pipe.reader, True)

    def log(first: int) -> None:
        for number in range(first, first + 100):
            sink.msg(numbered(number))

    threads = [threading.Thread(target=log, args=(first,)) for first in range(0, 1000, 100)]
    for thread in threads:
        thread.start()
    written = b""
    while written.count(b"\n") < 1000:
        written += os.read(pipe.reader, 1 << 16)
    for thread in threads:
        thread.join()
    assert sorted(numbers(written)) == list(range(1000))


def test_waiting_is_over_after_its_time(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    os.set_blocking(pipe.writer, False)
    while True:
        try:
            os.write(pipe.writer, b"x" * 4096)
        except BlockingIOError:
            break
    start = time.monotonic()
    sink.msg(LINE)
    assert PATIENCE_MS / 2000 < time.monotonic() - start < SOON
