"""The program over the wire: what it answers, what it refuses, and what it logs."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.program import MODULE, Program, eventually
from tests.server.conftest import Starts

# Short, so that a client's slowness shows soon.
TIMEOUT = 1.0
GET = b"GET /monitor HTTP/1.1\r\nHost: stator\r\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program that all tests of this file share: each looks only at the lines of its own requests."""
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


def test_a_request_is_logged_from_end_to_end_under_one_id(program: Program) -> None:
    program.get("/metrics?who=me", {"Authorization": "Bearer hunter2", "X-Request-ID": "mine"})
    (request,) = program.lines("received request", request_id="mine")
    response = program.wait_for("sending response", request_id="mine")
    assert request["query"] == '{"who":["--redacted--"]}'
    assert request["worker_id"] == response["worker_id"]
    assert (request["remote_ip"], request["path"], response["status"]) == ("127.0.0.1", "/metrics", 200)
    assert "wave_sine" in response["body"]
    assert "hunter2" not in program.output


def test_a_connection_serves_many_requests(program: Program) -> None:
    connection = program.connect()
    ports = set()
    for number in range(3):
        connection.request("GET", "/monitor", headers={"X-Request-ID": f"keep-{number}"})
        assert connection.getresponse().read() == b'{"status":"ok"}'
        ports |= {line["remote_port"] for line in program.lines("received request", request_id=f"keep-{number}")}
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
    "a body's length of 5,000 digits": (GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "a header that never ends": (GET + b"X: " + b"a" * 20_000, 431),
    "a target that never ends": (b"GET /" + b"a" * 20_000, 414),
    "a chunk's extension that never ends": (GET + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 20_000, 431),
    "trailers that never end": (GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 4000, 431),
    "a chunk that is no chunk": (GET + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n", 400),
    "a target that is none": (b"GET http://:x/ HTTP/1.1\r\nHost: stator\r\n\r\n", 400),
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
    lines = eventually(lambda: [line for line in program.lines()[before:] if str(status) in json.dumps(line)])
    assert "error" not in lines[0]
    assert program.get("/monitor").status == 200


@pytest.mark.parametrize("what", ["a header that is too long", "a body that is too long"])
def test_a_client_that_is_refused_may_send_the_rest_before_reading_why(program: Program, what: str) -> None:
    data, status = REFUSED[what]
    with program.dial() as connection:
        connection.sendall(data[:30_000])
        eventually(lambda: [line for line in program.lines() if str(status) in json.dumps(line)])
        for _ in range(20):
            connection.sendall(b"a" * 50_000)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_client_that_is_refused_and_stays_is_closed(program: Program) -> None:
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


UNFINISHED = {b"": b"", b"GET /mon": b"408", GET + b"X: 1": b"408", GET + b"Content-Length: 5\r\n\r\nhe": b"408"}


def test_a_client_that_never_finishes_its_request_is_refused(program: Program) -> None:
    def timed(begun: bytes) -> tuple[float, bytes]:
        start = time.monotonic()
        answer = exchange(program, begun)
        return time.monotonic() - start, answer[9:12]

    with ThreadPoolExecutor() as clients:
        outcomes = list(clients.map(timed, UNFINISHED))
    assert all(TIMEOUT * 0.9 < seconds < TIMEOUT + 2 for seconds, _ in outcomes)
    assert [status for _, status in outcomes] == [*UNFINISHED.values()]
    refused = [line for line in program.lines() if "with status 408" in line["msg"]]
    assert len(refused) == 2
    assert program.lines("sending response", status=408)


def test_a_client_that_sends_its_headers_slowly_is_refused(program: Program) -> None:
    start, answer = time.monotonic(), b""
    with program.dial() as connection, suppress(ConnectionResetError, BrokenPipeError):
        connection.settimeout(0.1)
        connection.sendall(GET)
        while time.monotonic() - start < 10:
            connection.sendall(b"X: y\r\n")
            with suppress(TimeoutError):
                answer = connection.recv(1000)
                break
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert TIMEOUT * 0.9 < time.monotonic() - start < TIMEOUT + 2


def test_a_client_that_begins_its_next_request_late_has_all_of_its_time(program: Program) -> None:
    with program.dial() as connection:
        for pause in (TIMEOUT * 0.8, TIMEOUT * 0.8):
            time.sleep(pause)
            connection.sendall(GET)
            time.sleep(TIMEOUT * 0.5)
            connection.sendall(b"\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("head", [b"GET /monitor HTTP/1.0\r\n\r\n", GET + b"\r\n"])
def test_a_client_that_sends_no_more_is_answered(program: Program, head: bytes, requests: int) -> None:
    with program.dial() as connection:
        connection.sendall(head * requests)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.endswith(b'{"status":"ok"}')
    assert answer.count(b"HTTP/1.1 200 OK") == (1 if b"1.0" in head else requests)


@pytest.mark.parametrize("begun", [b"", GET, GET + b"Content-Length: 5\r\n\r\nhe"])
def test_a_client_that_sends_no_more_of_its_request_is_closed_at_once(program: Program, begun: bytes) -> None:
    start = time.monotonic()
    with program.dial() as connection:
        connection.sendall(begun)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert time.monotonic() - start < TIMEOUT


@pytest.mark.parametrize(
    "request_",
    [
        b"GET http://127.0.0.1:8087/monitor HTTP/1.1\r\nHost: stator\r\n",
        GET + b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\nX-Forwarded-For: nobody\r\n",
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        GET + b"Expect: 100-continue\r\n",
        GET + b"Content-Length: " + b"0" * 5000 + b"\r\n",
    ],
    ids=[
        "an absolute target",
        "what a proxy adds",
        "an upgrade to HTTP/2",
        "an expectation without a body",
        "a length of 5,000 zeros",
    ],
)
def test_what_other_servers_answer_is_answered(program: Program, request_: bytes) -> None:
    with program.dial() as connection:
        connection.sendall(request_ + b"\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("target", [b"http://127.0.0.1:8087", b"http://stator?x=1"])
def test_a_uri_without_a_path_is_the_root(program: Program, target: bytes) -> None:
    with program.dial() as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: stator\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert any(line["path"] == "/" for line in program.lines("received request"))


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(program: Program) -> None:
    with program.dial() as connection:
        connection.sendall(GET + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"he")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_beyond_the_maximum_of_connections_the_one_that_is_idle_longest_is_closed(starts: Starts) -> None:
    slow = """
import time
from stator.points import PointsAt
class Slow:
    def collect(self, now):
        time.sleep(1)
        return PointsAt("slow", now)
"""
    env = {"STTR_SERVER_MAXCONNECTIONS": "10", "STTR_COLLECTORS": "slow:Slow"}
    program = starts(env, modules={"slow": slow})
    with ExitStack() as stack:
        scraping = stack.enter_context(program.dial())
        scraping.sendall(b"GET /metrics HTTP/1.1\r\nHost: stator\r\n\r\n")
        idle = [stack.enter_context(program.dial()) for _ in range(9)]
        idle[0].sendall(GET + b"\r\n")
        assert idle[0].recv(1000).startswith(b"HTTP/1.1 200 OK")
        idle += [stack.enter_context(program.dial()) for _ in range(3)]
        for connection in idle[1:4]:
            assert connection.recv(1) == b""
        for connection in (idle[0], *idle[4:]):
            connection.sendall(GET + b"\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
        assert scraping.recv(1000).startswith(b"HTTP/1.1 200 OK")
    eventually(lambda: any("more than 10 were open" in line["msg"] for line in program.lines(level="warning")))


def test_clients_that_send_no_bodies_keep_no_other_from_being_answered(starts: Starts) -> None:
    program = starts({"STTR_SERVER_MAXCONNECTIONS": "10"})
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(program.dial()).sendall(GET + b"Content-Length: 5\r\n\r\nhe")
        for _ in range(3):
            assert program.get("/monitor").status == 200
    eventually(lambda: any("more than 10 were open" in line["msg"] for line in program.lines(level="warning")))


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


def test_without_a_host_it_listens_on_every_address(starts: Starts) -> None:
    program = starts({"STTR_SERVER_HOST": ""})
    assert program.get("/monitor").status == 200
    if socket.has_dualstack_ipv6():
        with socket.create_connection(("::1", program.port), timeout=5) as connection:
            connection.sendall(GET + b"Connection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert {line["remote_ip"] for line in program.lines("received request")} <= {"127.0.0.1", "::1"}


def test_probes_and_scrapes_of_quiet_paths_fill_no_log(starts: Starts) -> None:
    program = starts({"STTR_LOGGER_QUIETPATHS": "/metrics,/monitor,/monitor/*"})
    for path in ["/monitor", "/monitor/ready", "/monitor/live", "/metrics"] * 5:
        assert program.get(path).status == 200
    assert program.get("/metrics?collect[]=nothing").status == 400
    assert program.get("/config").status == 200
    received = program.lines("received request")
    assert [line["path"] for line in received] == ["/metrics", "/config"]
    answered = program.lines("sending response")
    assert [(line["request_id"], line["status"]) for line in answered] == [
        (line["request_id"], status) for line, status in zip(received, (400, 200), strict=True)
    ]
