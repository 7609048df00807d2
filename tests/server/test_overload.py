"""What the program does for its other clients where many read nothing or send slowly."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import pytest

from tests.program import MODULE, Program, eventually
from tests.server.conftest import Starts

MUTE, SLOW = 1000, 200
SECONDS = 10.0
SCRAPES = b"GET /metrics HTTP/1.1\r\nHost: stator\r\n\r\n" * 150
ENDLESS = b"GET /monitor HTTP/1.1\r\n" + b"X: y\r\n" * 100


@pytest.fixture
def program(starts: Starts) -> Program:
    """A program whose processes may open no more than 1,024 files."""
    return starts(command=("sh", "-c", 'ulimit -n 1024; exec "$0" "$@"', *MODULE))


@contextmanager
def attacked(program: Program) -> Iterator[None]:
    """A thousand clients ask for many scrapes and read nothing, two hundred send a byte a second."""
    over = threading.Event()

    def drip(clients: list[socket.socket]) -> None:
        for number in range(len(ENDLESS)):
            for client in clients:
                try:
                    client.send(ENDLESS[number : number + 1])
                except OSError:
                    client.close()
            if over.wait(1):
                return

    limits = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (limits[1], limits[1]))
    with ExitStack() as stack:
        for _ in range(MUTE):
            mute = stack.enter_context(socket.socket())
            mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mute.connect(("127.0.0.1", program.port))
            mute.setblocking(False)
            mute.send(SCRAPES)
        slow = [stack.enter_context(program.dial()) for _ in range(SLOW)]
        dripping = threading.Thread(target=drip, args=(slow,))
        dripping.start()
        try:
            yield
        finally:
            over.set()
            dripping.join()
    setrlimit(RLIMIT_NOFILE, limits)


def test_many_clients_that_read_nothing_or_send_slowly_hold_up_nobody_else(program: Program) -> None:
    program.wait_for("ready")
    (worker,) = program.workers
    before, took, memory = worker.memory_info().rss, [], 0
    with attacked(program):
        eventually(lambda: worker.num_fds() > 900)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            start = time.monotonic()
            assert program.get("/monitor").status == 200
            took.append(time.monotonic() - start)
            memory = max(memory, worker.memory_info().rss)
            time.sleep(0.05)
    assert max(took) < 1
    assert memory - before < 50_000_000
    eventually(lambda: [line for line in program.lines(level="warning") if "more than 960 were open" in line["msg"]])
    eventually(lambda: worker.num_fds() < 64)
    assert program.stop() == 0
