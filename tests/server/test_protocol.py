"""One connection on which a client asks again and again, for the same and for others, in one piece and in several."""

import asyncio
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn

from stator.server.listener import Listener
from stator.server.protocol import Connections
from stator.server.worker import BLOCKED_AT_END, Server, Worker
from stator.web.access_log import App, Receive, Scope, Send
from tests.program import Program
from tests.server.conftest import Starts


def request(path: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: shop", *headers, *length, "", body]).encode()


MONITOR, NOTHING = request("/monitor"), request("/nothing")
LAST = request("/monitor", "Connection: close")
TOO_LONG = request("/", "Content-Length: 1000000", method="POST")
BODY = request("/nothing", method="POST", body="jobs=1")
OTHER_BODY = request("/nothing", method="POST", body="jobs=2")
SEQUENCES: dict[str, tuple[Sequence[bytes], list[int]]] = {
    "the same": ([MONITOR] * 4, [200] * 4),
    "two in turn": ([MONITOR, NOTHING] * 3, [200, 404] * 3),
    "two in turn, each twice": ([MONITOR, MONITOR, NOTHING, NOTHING] * 2, [200, 200, 404, 404] * 2),
    "the same in two pieces": ([MONITOR, MONITOR, MONITOR[:20], MONITOR[20:], MONITOR], [200] * 4),
    "another that begins with the same": ([MONITOR, MONITOR[:-2], b"X: 1\r\n\r\n", MONITOR], [200] * 3),
    "two at once": ([MONITOR, MONITOR + MONITOR, MONITOR, MONITOR + NOTHING, MONITOR], [200] * 5 + [404, 200]),
    "one and a half at once": ([MONITOR, MONITOR + NOTHING[:9], NOTHING[9:], MONITOR], [200, 200, 404, 200]),
    "with a body": ([BODY, BODY, OTHER_BODY, BODY], [404] * 4),
    "with a body and without": ([MONITOR, BODY, MONITOR, BODY], [200, 404] * 2),
    "other methods": ([request("/monitor", method=verb) for verb in ("OPTIONS", "GET", "PUT")], [200, 200, 405]),
    "heads": ([request("/monitor", method="HEAD")] * 3, [200] * 3),
    "with an empty line before": ([MONITOR, b"\r\n" + MONITOR, b"\r\n" + MONITOR, MONITOR], [200] * 4),
    "with more than one empty line before": ([b"\r\n" + MONITOR, b"\r\n", b"\r\n" + MONITOR], [200, 200]),
    "the last": ([LAST], [200]),
    "a body and half a request at once": ([BODY + MONITOR[:9], MONITOR[9:]], [404, 200]),
    "a body and nonsense at once": ([BODY + b"\x00nonsense\r\n\r\n"], [404, 400]),
    "nonsense after the same": ([MONITOR, MONITOR, b"\x00nonsense\r\n\r\n"], [200, 200, 400]),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that tests share which do not look at its memory."""
    with Program({}, tmp_path_factory.mktemp("stator")) as running:
        yield running
        assert running.stop() == 0
        assert running.errors == ""


def statuses(client: socket.socket, writes: Sequence[bytes], count: int, pause: float) -> list[int]:
    """Status of each answer to what is written, with a pause after each piece, until so many have come."""
    answers = b""
    for write in writes:
        client.sendall(write)
        time.sleep(pause)
    while answers.count(b"HTTP/1.1 ") < count and (part := client.recv(65536)):
        answers += part
    client.settimeout(0.05)
    with suppress(TimeoutError):  # no more than was asked for
        answers += client.recv(65536)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["without waiting", "waiting"])
@pytest.mark.parametrize(("writes", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_each_request_gets_its_own_answer(
    shared: Program, writes: Sequence[bytes], expected: list[int], pause: float
) -> None:
    with shared.dial() as client:
        assert statuses(client, writes, len(expected), pause) == expected


def test_requests_that_are_the_same_have_ids_of_their_own(shared: Program) -> None:
    asked = request("/monitor?collect[]=%20b", "X-Mark: yes")
    with shared.dial() as client:
        assert statuses(client, [asked] * 5, 5, 0.02) == [200] * 5
    received = [line for line in shared.lines("received request") if "X-Mark" in line["headers"]]
    assert len({line["request_id"] for line in received}) == 5
    lines = [{**line, "ts": "", "request_id": ""} for line in received]
    assert lines == [lines[0]] * 5
    assert (lines[0]["method"], lines[0]["path"], lines[0]["query"]) == ("GET", "/monitor", '{"collect[]":[" b"]}')
    assert len([line for line in shared.lines("sending response") if line["request_id"] in str(received)]) == 5


def test_a_body_is_not_taken_for_that_of_a_request_before(shared: Program) -> None:
    with shared.dial() as client:
        port = str(client.getsockname()[1])
        statuses(client, [BODY, BODY, OTHER_BODY, BODY], 4, 0.02)
    bodies = [line["body"] for line in shared.lines("received request", remote_port=port)]
    assert bodies == ["jobs=1", "jobs=1", "jobs=2", "jobs=1"]


def test_a_client_that_sends_thousands_at_once_leaves_others_their_turn(shared: Program) -> None:
    many = 5000
    answers = 0

    def read() -> None:
        nonlocal answers
        while answers < many and (part := client.recv(65536)):
            answers += part.count(b"HTTP/1.1 404 ")

    with shared.dial() as client:
        reader = threading.Thread(target=read)
        reader.start()
        client.sendall(request("/x") * many)
        assert shared.get("/monitor").status == 200
        assert answers < many
        reader.join(30)
    assert answers >= many - 10  # a status may have come in two parts


BLOCKING = """
import time
from stator import Point, PointsAt

class Blocking:
    def is_nonblocking(self):
        return True

    def collect(self, now):
        time.sleep(1.0)
        return PointsAt("blocking", now, points=[Point("b", "", 1)])
"""


def test_a_request_is_in_the_log_before_anything_that_may_hang_is_done_for_it(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "blocking:Blocking"}, modules={"blocking": BLOCKING})
    with program.dial() as client:
        client.sendall(request("/metrics"))
        received = program.wait_for("received request", within=0.8, path="/metrics")
        assert not program.lines("sending response", request_id=received["request_id"])
        assert b"blocking_b 1" in client.recv(65536)


async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    pass


async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise OSError


async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"ha", "more_body": True})


async def whole(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"wh", "more_body": True})
    await send({"type": "http.response.body", "body": b"ol"})


async def big(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
    await send({"type": "http.response.body", "body": b"x" * 20_000_000})


@asynccontextmanager
async def serving(app: App, timeout: float = 10.0) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the worker's server, which serves an application in this event loop."""
    config = uvicorn.Config(app, log_config=None, **Worker.CONFIG_KWARGS)
    server = Server(config, Connections(timeout, 100), 0.1)
    with Listener(fileno=socket.create_server(("127.0.0.1", 0)).detach()) as listener:
        ended = asyncio.create_task(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        yield reader, writer
        writer.close()
        server.handle_exit(signal.SIGTERM, None)
        await ended
        # A worker ends with its server, and keeps stop signals from it until then; the tests go on.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_END)


async def answers(app: App, *requests: bytes) -> bytes:
    """All that an application answers until the connection is closed."""
    async with serving(app) as (reader, writer):
        writer.write(b"".join(requests))
        return await reader.read()


@pytest.mark.parametrize("app", [nothing, failing])
def test_an_application_that_does_not_answer_is_answered_for(app: App) -> None:
    came = asyncio.run(answers(app, MONITOR, LAST))
    assert came.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert came.count(b"HTTP/1.1 ") == came.count(b"connection: close\r\n") == 1


def test_an_answer_that_stops_short_ends_the_connection() -> None:
    came = asyncio.run(answers(half, MONITOR, LAST))
    assert came.count(b"HTTP/1.1 ") == 1
    assert came.endswith(b"\r\n\r\nha")


def test_an_answer_in_pieces_comes_whole() -> None:
    came = asyncio.run(answers(whole, MONITOR, LAST))
    assert came.count(b"HTTP/1.1 200 OK\r\n") == came.count(b"\r\n\r\nwhol") == 2
    assert came.count(b"connection: close\r\n") == 1


def test_a_client_that_reads_slowly_gets_all_of_its_answer() -> None:
    async def read_slowly() -> int:
        came = 0
        async with serving(big, timeout=1.0) as (reader, writer):
            writer.write(LAST)
            while part := await reader.read(2_000_000):
                came += len(part)
                await asyncio.sleep(0.05)
        return came

    assert asyncio.run(read_slowly()) > 20_000_000


def test_a_client_that_reads_nothing_is_closed_after_the_timeout(caplog: pytest.LogCaptureFixture) -> None:
    async def read_nothing() -> float:
        async with serving(big, timeout=0.5) as (reader, writer):
            writer.write(MONITOR)
            start = time.monotonic()
            while "did not read" not in caplog.text:
                await asyncio.sleep(0.05)
            took = time.monotonic() - start
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readexactly(20_000_000)
        return took

    assert 0.5 <= asyncio.run(read_nothing()) < 3


def test_a_client_that_is_refused_and_resets_the_connection_does_no_harm(shared: Program) -> None:
    for _ in range(600):
        with shared.dial() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(TOO_LONG)
            time.sleep(0.0005)
    assert shared.get("/monitor").status == 200
    assert shared.lines(level="error") == []


def test_after_an_answer_that_says_so_the_connection_is_closed(shared: Program) -> None:
    too_long = request("/nothing", method="POST", body="x" * 70_000)
    with shared.dial() as client:
        assert statuses(client, [too_long + MONITOR], 2, 0.0) == [413]
        assert client.recv(100) == b""


def test_every_answer_says_how_long_it_is(shared: Program) -> None:
    for path in ("/", "/monitor", "/metrics", "/metrics?collect[]=no", "/config", "/nothing", "/monitor/"):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
            answer = shared.request(method, path)
            length = int(answer.headers["content-length"])
            assert method == "HEAD" or length == len(answer.body)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_that_asks_and_asks_and_never_reads_has_to_wait(starts: Starts, method: str) -> None:
    program = starts()
    program.wait_for("ready")
    (worker,) = program.workers
    asked = request("/monitor", method=method) * 1000
    with program.dial() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.5)
        before, sent = worker.memory_info().rss, 0
        with suppress(TimeoutError):
            while sent < 40_000_000:
                sent += client.send(asked)
        assert program.get("/monitor").status == 200
        assert worker.memory_info().rss - before < 10_000_000
    assert sent < 40_000_000


def test_a_client_that_sends_many_requests_at_once_is_answered_while_they_come(starts: Starts) -> None:
    program = starts()
    program.wait_for("ready")
    (worker,) = program.workers
    before, count = worker.memory_info().rss, 30_000
    with program.dial() as client:
        sender = threading.Thread(target=client.sendall, args=(MONITOR * count,))
        sender.start()
        came = 0
        tail = b""
        while came < count and (part := client.recv(1 << 16)):
            came += (tail + part).count(b"HTTP/1.1 200 OK") - tail.count(b"HTTP/1.1 200 OK")
            tail = part[-14:]
        sender.join()
    assert came == count
    assert worker.memory_info().rss - before < 10_000_000


def test_a_client_that_is_refused_finds_it_in_the_log(starts: Starts) -> None:
    """Also while others are answered."""
    program, stopped = starts(), threading.Event()
    logged = []

    def ask() -> None:
        with program.dial() as client:
            while not stopped.is_set():
                client.sendall(MONITOR)
                client.recv(65536)

    others = [threading.Thread(target=ask) for _ in range(4)]
    for other in others:
        other.start()
    try:
        for _ in range(200):
            with program.dial() as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\nA : refused\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
                with program.stdout.open("rb") as log:
                    log.seek(max(0, program.stdout.stat().st_size - 50_000))
                    logged.append(f":{client.getsockname()[1]} with status 400".encode() in log.read())
    finally:
        stopped.set()
        for other in others:
            other.join()
    assert logged.count(False) == 0
