"""Whatever stdout is, the sink writes each line whole or not at all, and never blocks or fails the service."""

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

from stator.log.writer import WRITE_TIMEOUT_MS, Sink
from tests.program import ROOT

LINE = b'{"msg":"hello"}\n'
# Seconds: much longer than it should ever take.
SOON = 2.0


class Pipe:
    """A pipe that a test reads when it wants."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def drain(self) -> bytes:
        """Returns all that is in it now."""
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
    """The numbers of the lines, each of which must be whole; reports of dropped lines have none."""
    return [line["n"] for line in map(json.loads, written.splitlines()) if "n" in line]


def dropped(written: bytes) -> int:
    return sum(line.get("dropped", 0) for line in map(json.loads, written.splitlines()))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


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


def test_a_pipe_that_nobody_reads_does_not_delay_the_writer(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    start = time.monotonic()
    for number in range(5000):
        sink.msg(numbered(number))
    assert time.monotonic() - start < SOON


def test_dropped_lines_are_counted_and_reported_as_soon_as_there_is_room(pipe: Pipe) -> None:
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
        # Lines of every length: many of them don't fit into what is left of the pipe.
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


@pytest.fixture
def interrupted() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Runs a call in a signal handler, while the sink waits for room."""

    def interrupt(call: Callable[[], object]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, WRITE_TIMEOUT_MS / 3000)

    before = signal.getsignal(signal.SIGALRM)
    yield interrupt
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_that_interrupts_the_writing_of_a_line_may_log_too(
    pipe: Pipe, interrupted: Callable[[Callable[[], object]], None]
) -> None:
    sink = Sink(pipe.writer)
    os.set_blocking(pipe.writer, False)
    os.write(pipe.writer, b"\n" * (1 << 20))  # as much as there is room for
    written = b""

    def interrupt() -> None:
        nonlocal written
        sink.msg(numbered(1))
        written += pipe.drain()

    interrupted(interrupt)
    sink.msg(numbered(0))
    sink.msg(numbered(2))
    written += pipe.drain()
    assert numbers(written.lstrip(b"\n")) == [0, 1, 2]


def test_no_line_is_left_half_written_however_often_a_socket_has_no_room() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        sink = Sink(ours.fileno())
        written = b""
        for number in range(400):
            sink.msg(numbered(number, 100 + number * 37 % 9000))
            if number % 60 == 59:
                written += drain(theirs.fileno())
        written += drain(theirs.fileno())
        sink.msg(numbered(400))
        written += drain(theirs.fileno())
    came = numbers(written)
    assert came == sorted(set(came))
    assert len(came) + dropped(written) == 401
    assert dropped(written) > 0


def test_lines_of_several_processes_are_not_mixed() -> None:
    reader, writer = os.pipe()
    children = []
    for child in range(3):
        if pid := os.fork():
            children.append(pid)
            continue
        sink = Sink(writer)
        for number in range(300):
            sink.msg(numbered(1000 * child + number, 700))
        # The last line reports what was dropped before it, once the reader has caught up.
        time.sleep(0.5)
        sink.msg(numbered(1000 * child + 300, 700))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        written = pipe.read()
    for pid in children:
        os.waitpid(pid, 0)
    came = numbers(written)
    assert len(came) == len(set(came))
    assert len(came) + dropped(written) == 903
    assert len(came) > 500


def test_a_line_longer_than_the_pipe_arrives_whole(pipe: Pipe) -> None:
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


def test_a_pipe_without_a_reader_does_not_fail_the_writer() -> None:
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


def test_a_full_disk_does_not_fail_the_writer() -> None:
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        sink = Sink(full.fileno())
        for _ in range(1000):
            sink.msg(LINE)


def test_lines_to_a_closed_descriptor_vanish_and_no_other_file_gets_its_number(tmp_path: Path) -> None:
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


def test_a_socket_gets_lines_and_does_not_fail_the_writer_when_full_or_closed() -> None:
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


def test_a_stopped_terminal_does_not_delay_the_writer() -> None:
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


def test_a_child_is_not_blocked_by_a_thread_that_was_writing_at_its_fork(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    os.set_blocking(pipe.writer, False)
    os.write(pipe.writer, b"\n" * (1 << 20))  # as much as there is room for
    writing = threading.Thread(target=sink.msg, args=(numbered(0),))
    writing.start()
    time.sleep(WRITE_TIMEOUT_MS / 3000)
    if not (pid := os.fork()):
        signal.alarm(5)  # ends a child that is blocked
        sink.msg(numbered(1))
        os._exit(0)
    pipe.drain()
    writing.join()
    assert os.waitpid(pid, 0)[1] == 0


def test_a_child_leaves_unfinished_lines_and_drop_counts_to_its_parent(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    for number in range(100):
        sink.msg(numbered(number, 5000))
    written = pipe.drain()
    if not (pid := os.fork()):
        sink.msg(LINE)
        os._exit(0)
    os.waitpid(pid, 0)
    assert pipe.drain() == LINE
    sink.msg(numbered(100))
    written += pipe.drain()
    assert numbers(written)[-1] == 100
    assert len(numbers(written)) + dropped(written) == 101


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


def test_the_sink_waits_for_room_no_longer_than_its_timeout(pipe: Pipe) -> None:
    sink = Sink(pipe.writer)
    os.set_blocking(pipe.writer, False)
    while True:
        try:
            os.write(pipe.writer, b"x" * 4096)
        except BlockingIOError:
            break
    start = time.monotonic()
    sink.msg(LINE)
    assert WRITE_TIMEOUT_MS / 2000 < time.monotonic() - start < SOON
