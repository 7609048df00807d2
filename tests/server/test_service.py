"""The program over the wire: what it answers, to whom it does not, and what it says of it."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.program import MODULE, Program, eventually
from tests.server.conftest import Starts

# Short, so that a client's slowness shows soon.
TIMEOUT = 1.0
GET = b"GET /monitor HTTP/1.1\r\nHost: stator\r\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that all tests of this file share: each looks only at what is told of its own requests."""
    env = {"STTR_SERVER_TIMEOUT": f"{TIMEOUT:g}s", "STTR_LOGGER_MAXLEN": "0"}
    with Program(env, tmp_path_factory.mktemp("stator"), command=MODULE) as running:
        yield running
        assert running.stop() == 0
        assert running.errors == ""


def exchange(program: Program, data: bytes) -> bytes:
    """Sends bytes, and gives all that comes until the program closes the connection."""
    answer = b""
    with program.dial() as connection:
        connection.sendall(data)
        while part := connection.recv(1 << 16):
            answer += part
    return answer


def test_says_where_it_is_ready(program: Program) -> None:
    assert program.wait_for("ready")["address"] == f"127.0.0.1:{program.port}"
    assert {(line["app_id"], len(line["run_id"])) for line in program.lines()} == {("stator", 7)}


def test_a_scrape_holds_every_collector(program: Program) -> None:
    answer = program.get("/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert {"pyrt_cpu_user_seconds", "du_used_percent", "wave_sine", "stator_build_info"} <= families.keys()
    assert {sample.value for sample in families["stator_collector_success"].samples} == {1}


def test_monitor_and_config_answer(program: Program) -> None:
    assert program.get("/monitor").body == b'{"status":"ok"}'
    config = json.loads(program.get("/config").body)["config"]
    assert (config["server"]["timeout"], config["server"]["workers"]) == ("1s", 1)


def test_head_has_no_body(program: Program) -> None:
    answer = exchange(program, b"HEAD /monitor HTTP/1.1\r\nHost: stator\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"content-length: 15" in head.lower(), body) == (True, b"")


def test_other_paths_and_methods_are_refused(program: Program) -> None:
    assert program.get("/nope")[::2] == (404, b'{"not":"found"}')
    refused = program.request("POST", "/monitor", b"hello")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_request_is_told_from_end_to_end_under_one_id(program: Program) -> None:
    program.get("/metrics?who=me", {"Authorization": "Bearer hunter2"})
    (request,) = program.lines("received request", query='{"who":["me"]}')
    response = program.wait_for("sending response", request_id=request["request_id"])
    assert request["worker_id"] == response["worker_id"]
    assert (request["remote_ip"], request["path"], response["status"]) == ("127.0.0.1", "/metrics", 200)
    assert "wave_sine" in response["body"]
    assert "hunter2" not in program.output


def test_a_connection_serves_many_requests(program: Program) -> None:
    connection = program.connect()
    ports = set()
    for number in range(3):
        connection.request("GET", f"/monitor?keep={number}")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        ports |= {line["remote_port"] for line in program.lines(query=f'{{"keep":["{number}"]}}')}
    connection.close()
    assert len(ports) == 1


def test_requests_that_come_at_once_are_answered_in_order(program: Program) -> None:
    requests = (GET, b"GET /nope HTTP/1.1\r\nHost: stator\r\n", GET + b"Connection: close\r\n")
    answers = exchange(program, b"\r\n".join(requests) + b"\r\n").split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"200", b"404", b"200"]


def test_http_1_0_is_answered_and_closed(program: Program) -> None:
    assert exchange(program, b"GET /monitor HTTP/1.0\r\n\r\n").endswith(b'{"status":"ok"}')


REFUSED = {
    "a request line that is too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    "a header that is too long": (GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "too many headers": (GET + b"X: 1\r\n" * 300 + b"\r\n", 431),
    "a body that is too long": (GET + b"Content-Length: 1000000\r\n\r\n" + b"a" * 1_000_000, 413),
    "a body of negative length": (GET + b"Content-Length: -1\r\n\r\n", 400),
    "two lengths": (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", 400),
    "a length and chunks": (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(256)), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_requests_are_refused_with_a_line_in_the_log(program: Program, what: str) -> None:
    data, status = REFUSED[what]
    before = len(program.lines())
    assert exchange(program, data).startswith(f"HTTP/1.1 {status} ".encode())
    told = eventually(lambda: [line for line in program.lines()[before:] if str(status) in json.dumps(line)])
    assert "error" not in told[0]
    assert program.get("/monitor").status == 200


@pytest.mark.parametrize("what", ["a header that is too long", "a body that is too long"])
def test_who_is_refused_may_send_the_rest_before_reading_why(program: Program, what: str) -> None:
    data, status = REFUSED[what]
    with program.dial() as connection:
        connection.sendall(data[:30_000])
        eventually(lambda: [line for line in program.lines() if str(status) in json.dumps(line)])
        for _ in range(20):
            connection.sendall(b"a" * 50_000)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_who_is_refused_and_stays_is_let_go(program: Program) -> None:
    start = time.monotonic()
    with program.dial() as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.sendall(REFUSED["a body that is too long"][0][:1000])
        while time.monotonic() - start < 10:
            connection.sendall(b"a")
            time.sleep(0.05)
    assert 1 < time.monotonic() - start < 5


def test_a_web_socket_is_refused(program: Program) -> None:
    before = len(program.lines())
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    answer = exchange(program, GET + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert [line for line in program.lines()[before:] if line["level"] == "error"] == []


def test_a_client_that_never_finishes_its_request_is_let_go(program: Program) -> None:
    unfinished = (b"", b"GET /mon", GET + b"X: 1", GET + b"Content-Length: 5\r\n\r\nhe")

    def seconds(begun: bytes) -> float:
        start = time.monotonic()
        exchange(program, begun)
        return time.monotonic() - start

    with ThreadPoolExecutor() as clients:
        took = list(clients.map(seconds, unfinished))
    assert all(TIMEOUT * 0.9 < each < TIMEOUT + 2 for each in took)


def test_a_client_that_dribbles_its_headers_is_let_go(program: Program) -> None:
    start = time.monotonic()
    with program.dial() as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.settimeout(0.1)
        connection.sendall(GET)
        while time.monotonic() - start < 10:
            connection.sendall(b"X: y\r\n")
            with suppress(TimeoutError):
                assert connection.recv(100) == b""
                break
    assert TIMEOUT * 0.9 < time.monotonic() - start < TIMEOUT + 2


def test_a_client_that_leaves_before_its_answer_is_no_error(starts: Starts) -> None:
    slow = """
import pathlib, time
class Slow:
    def collect(self, now):
        while not pathlib.Path("go").exists():
            time.sleep(0.005)
        raise OSError("late")
"""
    program = starts({"STTR_COLLECTORS": "slow:Slow"}, modules={"slow": slow})
    with program.dial() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: stator\r\n\r\n")
        request = program.wait_for("received request", path="/metrics")
    (program.stdout.parent / "go").touch()
    program.wait_for("failed to collect", request_id=request["request_id"])
    assert program.stop() == 0
    assert [line for line in program.lines() if line["level"] in ("warning", "error")] == (
        program.lines("failed to collect")
    )
    assert program.errors == ""


def test_many_connections_at_once_are_all_answered(program: Program) -> None:
    connections = []
    for _ in range(300):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", program.port))
        connections.append(connection)
    start = time.monotonic()
    for connection in connections:
        connection.settimeout(5)
        connection.sendall(GET + b"\r\n")
    for connection in connections:
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        connection.close()
    assert time.monotonic() - start < 3


def test_requests_are_shared_among_the_workers(starts: Starts) -> None:
    program = starts({"STTR_SERVER_WORKERS": "4"})
    eventually(lambda: program.port and len(program.workers) == 4)

    def served() -> bool:
        program.get("/monitor")
        return len({line["worker_id"] for line in program.lines("received request")}) > 1

    eventually(served)
    assert program.stop() == 0
    assert program.processes() == []


def test_every_address_is_listened_on_unless_told_otherwise(starts: Starts) -> None:
    program = starts({"STTR_SERVER_HOST": ""})
    assert program.get("/monitor").status == 200
    if socket.has_dualstack_ipv6():
        with socket.create_connection(("::1", program.port), timeout=5) as connection:
            connection.sendall(GET + b"Connection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert {line["remote_ip"] for line in program.lines("received request")} <= {"127.0.0.1", "::1"}
