"""The state that a service shows: whole whenever it's read, and of a form that others know."""

import os
import random
import signal
import time
import zlib
from mmap import mmap

import pytest

from stator.control.state import _HEAD, MAGIC, SIZE, SharedState, StateError, _start, read_state, write_level


@pytest.fixture
def fd() -> int:
    return os.memfd_create("stator-state-of-a-test")


def test_what_was_published_is_read_with_the_level(fd: int) -> None:
    state = SharedState.of_file(fd)
    state.publish(service="shop", port=8087)
    state.publish(service="other")
    assert read_state(fd) == ({"service": "other", "port": 8087}, 0)
    write_level(fd, 10)
    assert state.level[0] == 10
    state.level[0] = 20
    assert read_state(fd)[1] == 20


def test_one_that_opens_it_later_shares_it(fd: int) -> None:
    first, second = SharedState.of_file(fd), SharedState.of_file(fd)
    first.publish(service="shop")
    second.level[0] = 10
    assert first.level[0] == 10
    assert read_state(fd)[0] == {"service": "shop"}


def test_what_is_nested_too_deep_to_be_read_is_no_state(fd: int) -> None:
    state = SharedState.of_file(fd)
    state.publish(service="shop")
    text = b'{"a":' + b"[" * 1500 + b"]" * 1500 + b"}"
    for start in (_start(0), _start(1)):
        os.pwrite(fd, _HEAD.pack(len(text), zlib.crc32(text)) + text, start)
    with pytest.raises(StateError):
        read_state(fd)


def test_what_is_too_long_is_cut_or_left_out(fd: int) -> None:
    state = SharedState.of_file(fd)
    state.publish(registration="x" * 10_000)
    assert read_state(fd)[0] == {"registration": "x" * 500}
    for number in range(20):
        state.publish(**{f"field {number}": "y" * 500})
    assert len(read_state(fd)[0]) < 20


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "unknown form"),
        (b"something else" + bytes(SIZE), "unknown form"),
        (MAGIC, "unknown form"),
        (MAGIC[:-1] + b"\2" + bytes(SIZE), "form 2"),
        (MAGIC + bytes(SIZE), "has not started yet"),
    ],
)
def test_what_is_no_state_is_named(fd: int, content: bytes, problem: str) -> None:
    os.write(fd, content)
    with pytest.raises(StateError, match=problem):
        read_state(fd)


def test_a_reader_never_sees_half_of_a_state(fd: int) -> None:
    state = SharedState.of_file(fd)
    state.publish(a="", b="")
    writer = os.fork()
    if writer == 0:
        while True:
            text = random.choice("xyz") * random.randrange(400)
            state.publish(a=text, b=text)
    try:
        until, read = time.monotonic() + 1, 0
        while time.monotonic() < until or read < 100:
            found, _ = read_state(fd)
            assert found["a"] == found["b"]
            read += 1
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    # Killed in whatever moment, it has left one that can be read.
    found, _ = read_state(fd)
    assert found["a"] == found["b"]


def test_a_copy_half_written_leaves_the_one_before(fd: int) -> None:
    state = SharedState.of_file(fd)
    state.publish(service="shop")
    with mmap(fd, SIZE) as memory:
        memory[32:100] = b"#" * 68  # the first copy; the first write went to the second
    assert read_state(fd)[0] == {"service": "shop"}
