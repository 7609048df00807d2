"""The client against servers that answer well, badly, slowly or not at all."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from stator.client.client import MAX_ANSWER
from stator.client.config import ClientConfig
from stator.client.errors import ClientError
from stator.client.logged import LoggedClient
from stator.log.redact import redact_headers
from stator.settings.declare import Secret
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.fakes import OK, Agent, MisbehavingServer, drips, floods, hangs, says
from tests.program import eventually

TIMEOUT, TIMEOUT_SHORT = Duration.parse("400ms"), Duration.parse("200ms")
IMPATIENT: dict[str, Any] = {"timeout": TIMEOUT, "timeout_short": TIMEOUT_SHORT}
# What an answer that is cut short may take beyond the timeouts on a busy machine.
SLACK = 1.0


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as running:
        yield running


Connect = Callable[..., LoggedClient]


@pytest.fixture
def connect(captured: CapturedLog) -> Iterator[Connect]:
    """Builds clients, which are closed in the end."""
    clients: list[LoggedClient] = []

    def build(uri: str, **settings: Any) -> LoggedClient:
        clients.append(ClientConfig(base_uri=uri, **settings).build(captured.log))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def full_queue() -> Iterator[str]:
    """The URI of a server whose queue is full: the kernel answers no further attempt to connect."""
    with socket.socket() as listener, ExitStack() as queued:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queued.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def failure(client: LoggedClient, method: str = "PUT", path: str = "/v1/agent", **settings: Any) -> ClientError:
    with pytest.raises(ClientError) as raised:
        client.send(method, path, **settings)
    return raised.value


def test_a_request_carries_the_payload_and_all_headers(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri, headers=("X-One", "1", "X-Two", "two words"))
    answer = client.send("PUT", "/v1/agent?pretty=true", {"a": "ä"}, headers={"X-Three": "3"})
    (asked,) = agent.requests
    assert (answer.status, answer.body) == (200, b"")
    assert (asked.method, asked.path) == ("PUT", "/v1/agent?pretty=true")
    assert json.loads(asked.body) == {"a": "ä"}
    assert asked.headers["Host"] == agent.uri.removeprefix("http://")
    assert asked.headers["Content-Type"] == asked.headers["Accept"] == "application/json"
    assert asked.headers["User-Agent"].startswith("stator")
    assert [asked.headers[name] for name in ("X-One", "X-Two", "X-Three")] == ["1", "two words", "3"]


def test_a_request_without_payload_has_no_body(agent: Agent, connect: Connect) -> None:
    connect(agent.uri).send("PUT", "/v1/agent")
    assert agent.requests[0].body == b""
    assert "Content-Type" not in agent.requests[0].headers


def test_an_answer_comes_with_its_body_and_headers(connect: Connect) -> None:
    with Agent(body=b'{"a":1}', headers={"X-Consul-Index": "7"}) as agent:
        answer = connect(agent.uri).send("GET", "/v1/agent")
    assert (answer.body, answer.headers["X-Consul-Index"]) == (b'{"a":1}', "7")


def test_the_base_uris_path_comes_first(agent: Agent, connect: Connect) -> None:
    connect(f"{agent.uri}/consul/").send("PUT", "/v1/agent")
    assert agent.requests[0].path == "/consul/v1/agent"


def test_an_ipv6_address_is_reached(connect: Connect) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with listener, ThreadPoolExecutor(1) as pool:
        uri = f"http://[::1]:{listener.getsockname()[1]}"
        waiting = pool.submit(connect(uri).send, "GET", "/")
        peer, _ = listener.accept()
        with peer:
            assert f"Host: {uri.removeprefix('http://')}".encode() in peer.recv(1 << 16)
            peer.sendall(OK + b"Content-Length: 0\r\n\r\n")
        assert waiting.result(5).status == 200


def test_the_next_address_of_a_host_is_tried_in_the_same_time(
    agent: Agent, connect: Connect, full_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [int(uri.rpartition(":")[2]) for uri in (full_queue, agent.uri)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.copy())
    start = time.monotonic()
    assert connect("http://two.example", **IMPATIENT).send("GET", "/").status == 200
    assert time.monotonic() - start < TIMEOUT.seconds + SLACK


def test_a_path_of_any_letters_is_quoted(agent: Agent, connect: Connect) -> None:
    connect(f"{agent.uri}/ä b").send("GET", "/v1/%2F?a=%20")
    assert agent.requests[0].path == "/%C3%A4%20b/v1/%2F?a=%20"


def test_names_and_passwords_of_any_language_are_sent(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri, user="Žofie", password=Secret("пароль"), headers=("X-City", "Zürich"))
    client.send("PUT", "/v1/agent")
    scheme, _, known = agent.requests[0].headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(known).decode()) == ("Basic", "Žofie:пароль")
    assert agent.requests[0].headers["X-City"].encode("latin-1").decode() == "Zürich"


def test_a_password_without_user_is_not_sent_but_warned_of(
    agent: Agent, connect: Connect, captured: CapturedLog
) -> None:
    assert list(ClientConfig(password=Secret("hunter2")).problems()) == []
    connect(agent.uri, password=Secret("hunter2")).send("PUT", "/v1/agent")
    assert "Authorization" not in agent.requests[0].headers
    (warning,) = [line for line in captured.lines if line["level"] == "warning"]
    assert warning["msg"] == "STTR_CLIENT_PASS is ignored, since STTR_CLIENT_USER is not set"


def test_request_and_response_are_logged_as_by_the_original(
    agent: Agent, connect: Connect, captured: CapturedLog
) -> None:
    agent.body = b"done"
    connect(agent.uri).send("PUT", "/v1/agent?wait=1s&token=2&token=&b", {"x": 1})
    request, response = captured.lines
    assert [line["msg"] for line in captured.lines] == ["sending request", "received response"]
    assert request["request_id"] == response["request_id"]
    assert (request["method"], request["scheme"], request["path"]) == ("PUT", "http", "/v1/agent")
    assert request["host"] == agent.uri.removeprefix("http://")
    assert json.loads(request["query"]) == {"wait": ["1s"], "token": ["--redacted--", ""], "--redacted--": [""]}
    assert json.loads(request["headers"])["Content-Type"] == ["application/json"]
    assert request["body"] == '{"x":1}'
    assert (response["status"], response["path"], response["body"]) == (200, "/v1/agent", "done")
    assert json.loads(response["headers"])["Content-Length"] == ["4"]
    assert 0 < response["elapsed"] < SLACK * 1e9


def test_every_request_has_an_id_of_its_own(agent: Agent, connect: Connect, captured: CapturedLog) -> None:
    client = connect(agent.uri)
    client.send("PUT", "/v1/agent")
    client.send("PUT", "/v1/agent")
    assert len({line["request_id"] for line in captured.lines}) == 2


def test_a_request_can_be_logged_at_a_lower_level(agent: Agent, connect: Connect, captured: CapturedLog) -> None:
    connect(agent.uri).send("PUT", "/v1/agent", level="debug")
    assert {line["level"] for line in captured.lines} == {"debug"}


def test_a_payload_that_holds_secrets_is_logged_without_them(
    agent: Agent, connect: Connect, captured: CapturedLog
) -> None:
    connect(agent.uri).send("PUT", "/v1/agent", {"key": "secret"}, log_payload={"key": "--redacted--"})
    assert json.loads(agent.requests[0].body) == {"key": "secret"}
    assert json.loads(captured.lines[0]["body"]) == {"key": "--redacted--"}
    assert "secret" not in captured.text


def test_bodies_can_be_left_out_of_the_log(agent: Agent, connect: Connect, captured: CapturedLog) -> None:
    agent.body = b"private answer"
    client = connect(agent.uri, skip_body=True)
    client.send("PUT", "/v1/agent", {"private": "request"})
    agent.body = b""
    client.send("PUT", "/v1/agent")
    assert "private" not in captured.text
    assert [line["body"] for line in captured.lines] == ["--skipped--", "--skipped--", "", ""]


def test_no_secret_is_in_any_line(connect: Connect, captured: CapturedLog) -> None:
    headers = ("X-Api-Key", "secret-1", "Authorization", "secret-2", "Accept", "open")
    answered = {"Set-Cookie": "secret-3", "x-api-key": "secret-4", "X-Consul-Index": "17"}
    with Agent(500, b"no", answered) as agent:
        client = connect(
            agent.uri, headers=headers, redact_headers=("x-API-key",), user="me", password=Secret("secret-5")
        )
        failure(client, headers={"X-Consul-Token": "secret-6"})
        asked = agent.requests[0].headers
    assert (asked["X-Api-Key"], asked["X-Consul-Token"]) == ("secret-1", "secret-6")
    assert "secret" not in captured.text
    assert base64.b64encode(b"me:secret-5").decode() not in captured.text
    request, response = (json.loads(line["headers"]) for line in captured.lines)
    assert request["X-Consul-Token"] == request["X-Api-Key"] == request["Authorization"] == ["--redacted--"]
    assert response["Set-Cookie"] == response["X-Api-Key"] == ["--redacted--"]
    assert (request["Accept"], response["X-Consul-Index"]) == (["open"], ["17"])


def test_headers_are_logged_by_their_canonical_names_each_with_all_of_its_values() -> None:
    headers = [("accept", "1"), ("ACCEPT", "2"), ("cookie", "c"), ("user-agent", "m")]
    assert redact_headers(headers, frozenset({"user-agent"})) == {
        "Accept": ["1", "2"],
        "Cookie": ["--redacted--"],
        "User-Agent": ["--redacted--"],
    }


def test_a_connection_is_used_again(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri)
    for _ in range(3):
        client.send("PUT", "/v1/agent", {"a": 1})
    assert (len(agent.requests), agent.connections) == (3, 1)


def test_a_connection_is_used_again_after_an_error_status(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri)
    agent.status, agent.body = 500, b"No cluster leader"
    failure(client)
    agent.status = 200
    client.send("PUT", "/v1/agent")
    assert agent.connections == 1


def test_a_connection_on_which_an_answer_broke_off_is_not_used_again(connect: Connect) -> None:
    with MisbehavingServer(drips(b"x", start=OK + b"Content-Length: 100\r\n\r\n")) as server:
        client = connect(server.uri, **IMPATIENT)
        failure(client)
        failure(client)
        assert server.connections == 2


def test_a_connection_that_the_agent_closed_is_replaced(connect: Connect) -> None:
    with MisbehavingServer(says(OK + b"Content-Length: 0\r\n\r\n")) as server:
        client = connect(server.uri)
        client.send("PUT", "/v1/agent")
        eventually(lambda: server.closed)
        client.send("PUT", "/v1/agent")
        assert server.connections == 2


@pytest.mark.parametrize(("status", "body"), [(301, b""), (400, b"bad"), (403, b"Permission denied"), (500, b"oops")])
def test_an_error_status_is_an_error_that_quotes_the_agent(
    agent: Agent, connect: Connect, status: int, body: bytes
) -> None:
    agent.status, agent.body, agent.headers = status, body, {"Location": f"{agent.uri}/elsewhere"}
    error = failure(connect(agent.uri))
    assert error.status == status
    assert f"PUT {agent.uri}/v1/agent was answered with status {status}" in str(error)
    assert body.decode() in str(error)
    assert len(agent.requests) == 1


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NOT_HTTP = {
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "not an HTTP answer: 'SSH-2.0"),
    "bytes": (says(b"\x00\xff" * 1000), "not an HTTP answer"),
    "one long line": (says(b"a" * 1000, times=1000), "65536 bytes"),
    "nothing": (says(b""), "closed connection without response"),
    "no end of it": (floods(b"x" * 1000, start=OK + b"\r\n"), f"longer than {MAX_ANSWER} bytes"),
    "too much of it": (floods(b"x" * 1000, start=OK + b"Content-Length: 2000000\r\n\r\n"), "longer than"),
    "more announced than is sent": (says(OK + b"Content-Length: 2000000\r\n\r\nabc"), "longer than"),
    "chunks without end": (floods(b"3e8\r\n" + b"x" * 1000 + b"\r\n", start=CHUNKED), "longer than"),
    "a body cut short": (says(OK + b"Content-Length: 100\r\n\r\nabc"), "3 bytes read, 97 more expected"),
    "a chunk cut short": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc"), "IncompleteRead"),
    "a chunk of no size": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"), "'zz"),
    "no gzip": (
        says(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
        "an encoding that was not asked for: gzip",
    ),
    "a status that is none": (says(b"HTTP/1.1 999999 \r\n\r\n"), "not an HTTP answer"),
}


@pytest.mark.parametrize("answer", NOT_HTTP)
def test_an_answer_that_is_not_http_is_an_error_that_says_so(
    connect: Connect, captured: CapturedLog, answer: str
) -> None:
    act, reason = NOT_HTTP[answer]
    with MisbehavingServer(act) as server:
        error = failure(connect(server.uri))
    assert str(error).startswith(f"PUT {server.uri}/v1/agent: ")
    assert reason in str(error)
    assert error.status is None
    line = captured.lines[-1]
    assert (line["msg"], line["reason"]) == ("no response", str(error))


SLOW = {
    "no answer": (hangs, TIMEOUT_SHORT),
    "a status line a byte at a time": (drips(OK), TIMEOUT_SHORT),
    "headers without end": (drips(b"X: y\r\n", start=OK), TIMEOUT_SHORT),
    "continuing without end": (floods(b"HTTP/1.1 100 Continue\r\n\r\n"), TIMEOUT_SHORT),
    "a body a byte at a time": (drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n"), TIMEOUT),
    "a body that ends with the connection": (drips(b"x", start=OK + b"\r\n"), TIMEOUT),
    "a body that stops": (drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n", every=9), TIMEOUT),
    "a chunk a byte at a time": (drips(b"x", start=CHUNKED + b"3e8\r\n"), TIMEOUT),
    "the size of a chunk a digit at a time": (drips(b"0", start=CHUNKED), TIMEOUT),
    "the extension of a chunk a byte at a time": (drips(b"x", start=CHUNKED + b"5;"), TIMEOUT),
    "chunks of a byte": (drips(b"1\r\nx\r\n", start=CHUNKED), TIMEOUT),
    "trailers without end": (drips(b"X: y\r\n", start=CHUNKED + b"0\r\n"), TIMEOUT),
    "a flood of trailers": (floods(b"X: y\r\n", start=CHUNKED + b"0\r\n"), TIMEOUT),
}


@pytest.mark.parametrize("slowness", SLOW)
def test_a_slow_answer_ends_at_the_deadline_wherever_it_trickles(connect: Connect, slowness: str) -> None:
    act, longest = SLOW[slowness]
    with MisbehavingServer(act) as server:
        client = connect(server.uri, **IMPATIENT)
        start = time.monotonic()
        error = failure(client)
        took = time.monotonic() - start
    assert "timed out" in str(error)
    assert error.kind == "timeout"
    assert longest.seconds * 0.9 < took < longest.seconds + SLACK


def test_empty_gzip_blocks_are_not_read_for_ever(connect: Connect) -> None:
    empty = b"\x00\x00\x00\xff\xff"  # RFC 1951, 3.2.4: a stored block of no bytes
    start = OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
    with MisbehavingServer(floods(empty, start=start)) as server:
        begin = time.monotonic()
        assert failure(connect(server.uri, **IMPATIENT)).kind == "invalid"
    assert time.monotonic() - begin < TIMEOUT.seconds + SLACK


@pytest.mark.parametrize("every", [0.05, 9])
def test_a_slow_tls_handshake_ends_at_the_deadline(connect: Connect, every: float) -> None:
    # The header of a handshake record of 16 kB, whose content trickles.
    with MisbehavingServer(drips(b"\x02", start=b"\x16\x03\x03\x40\x00", every=every)) as server:
        start = time.monotonic()
        error = failure(connect(server.uri.replace("http", "https"), **IMPATIENT))
        assert time.monotonic() - start < TIMEOUT_SHORT.seconds + SLACK
    assert error.kind == "timeout"


def test_an_attempt_to_connect_ends_at_the_deadline(connect: Connect, full_queue: str) -> None:
    start = time.monotonic()
    assert failure(connect(full_queue, **IMPATIENT)).kind == "timeout"
    assert TIMEOUT_SHORT.seconds * 0.9 < time.monotonic() - start < TIMEOUT_SHORT.seconds + SLACK


def test_a_request_can_have_less_time_than_is_configured(connect: Connect) -> None:
    with MisbehavingServer(hangs) as server:
        start = time.monotonic()
        failure(connect(server.uri), timeout=0.1)
    assert time.monotonic() - start < SLACK


def test_a_port_where_nobody_listens_is_an_error(connect: Connect, captured: CapturedLog) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert str(failure(connect(uri))) == f"PUT {uri}/v1/agent: Connection refused"
    assert [line["msg"] for line in captured.lines] == ["sending request", "no response"]
    assert captured.lines[1]["elapsed"] > 0


def test_a_host_that_has_no_address_is_an_error(connect: Connect) -> None:
    assert "http://nowhere.invalid" in str(failure(connect("http://nowhere.invalid")))


def test_a_header_that_can_not_be_sent_is_named_without_its_value(
    agent: Agent, connect: Connect, captured: CapturedLog
) -> None:
    error = failure(connect(agent.uri), headers={"X-Consul-Token": "secret\nline"})
    assert "X-Consul-Token" in str(error)
    assert "secret" not in str(error) + captured.text
    assert agent.requests == []


def test_an_agent_that_speaks_no_tls_is_an_error(agent: Agent, connect: Connect) -> None:
    uri = agent.uri.replace("http", "https")
    assert "SSL" in str(failure(connect(uri)))


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
@pytest.mark.parametrize("content", [b"no PEM at all", b"\x30\x82\xff", None])
def test_a_bad_tls_file_is_reported_at_the_start_and_is_no_more_than_an_error_later(
    agent: Agent, connect: Connect, tmp_path: Path, setting: str, content: bytes | None
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    settings: dict[str, Any] = {setting: str(file)}
    (problem,) = ClientConfig(**settings).problems()
    assert problem[0] == setting
    failure(connect(agent.uri.replace("http", "https"), **settings))


def test_tls_is_verified_by_the_authorities_of_the_file(certificate: tuple[Path, Path], connect: Connect) -> None:
    cert, key = certificate
    with Agent(tls=certificate) as agent:
        unknown = str(failure(connect(agent.uri)))
        assert "CERTIFICATE_VERIFY_FAILED" in unknown
        assert unknown.endswith("; STTR_CLIENT_CAFILE names the authorities to trust")
        assert connect(agent.uri, ca_file=str(cert)).send("PUT", "/v1/agent").status == 200
        assert connect(agent.uri, skip_verify=True).send("PUT", "/v1/agent").status == 200
        own: dict[str, Any] = {"cert_file": str(cert), "key_file": str(key)}
        assert list(ClientConfig(ca_file=str(cert), **own).problems()) == []
        assert connect(agent.uri, ca_file=str(cert), **own).send("PUT", "/v1/agent").status == 200


@pytest.mark.parametrize(
    "uri",
    [
        "localhost:8500",
        "ftp://localhost",
        "http://",
        "http://a..b",
        "http://localhost:99999",
        "http://localhost:0",
        "http://localhost/?a=b",
        "http://me:secret@localhost",
        "http://[::1",
    ],
)
def test_a_uri_that_is_not_valid_is_reported(uri: str) -> None:
    assert [name for name, _ in ClientConfig(base_uri=uri).problems()] == ["base_uri"]


@pytest.mark.parametrize("uri", ["http://localhost:8500", "https://consul.example.org/prefix/", "http://[::1]:8500"])
def test_a_valid_uri_is_accepted(uri: str) -> None:
    assert list(ClientConfig(base_uri=uri).problems()) == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"headers": ("X A", "b")}, "headers"),
        ({"headers": ("X-A", "b\nX-B: c")}, "headers"),
        ({"headers": ("", "b")}, "headers"),
        ({"key_file": "/key.pem"}, "key_file"),
    ],
)
def test_settings_that_can_not_be_used_are_reported(settings: dict[str, Any], name: str) -> None:
    assert [found for found, _ in ClientConfig(**settings).problems()] == [name]


def test_a_long_poll_may_take_longer(connect: Connect) -> None:
    def late(peer: socket.socket, ended: threading.Event) -> None:
        ended.wait(2 * TIMEOUT.seconds)
        peer.sendall(OK + b"Content-Length: 4\r\n\r\nlate")

    with MisbehavingServer(late) as server:
        client = connect(server.uri, **IMPATIENT)
        assert client.send("GET", "/", long_poll=5.0).body == b"late"
        assert failure(client).kind == "timeout"


@pytest.mark.parametrize(
    "act", [hangs, drips(b"X: y\r\n", start=OK), drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n")]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_the_client_fails_a_request_of_another_thread_at_once(
    connect: Connect, act: Callable[..., None], scheme: str
) -> None:
    with MisbehavingServer(act) as server, ThreadPoolExecutor(1) as pool:
        client = connect(server.uri.replace("http", scheme))
        waiting = pool.submit(failure, client, long_poll=60.0)
        eventually(lambda: server.connections)
        start = time.monotonic()
        client.close()
        error = waiting.result(5)
        assert time.monotonic() - start < SLACK
        assert error.kind == "unreachable"
        assert failure(client, long_poll=60.0).kind == "unreachable"


def test_closing_the_client_fails_an_attempt_to_connect_at_once(connect: Connect, full_queue: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        client = connect(full_queue)
        waiting = pool.submit(failure, client)
        time.sleep(0.1)
        start = time.monotonic()
        client.close()
        assert waiting.result(5).kind == "unreachable"
    assert time.monotonic() - start < SLACK


def test_a_client_that_was_closed_before_its_first_request_sends_nothing(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri)
    client.close()
    assert failure(client).kind == "unreachable"
    assert agent.requests == []


def test_closing_a_client_leaves_its_clone_open(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri, user="stator")
    with closing(client.clone()) as clone:
        client.close()
        clone.send("GET", "/")
    assert "Authorization" in agent.requests[0].headers


@pytest.mark.parametrize(
    ("answer", "failing"),
    [(b"", "unreachable"), (b"SSH-2.0-OpenSSH\r\n", "invalid"), (OK + b"Content-Length: 9\r\n\r\n", "unreachable")],
)
def test_an_error_has_the_kind_of_the_failure(connect: Connect, answer: bytes, failing: str) -> None:
    with MisbehavingServer(says(answer)) as server:
        assert failure(connect(server.uri)).kind == failing


def test_a_connection_that_is_to_be_closed_is_not_used_again(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri)
    for _ in range(20):
        client.send("GET", "/", headers={"Connection": "close"})
    assert agent.connections == 20


def test_a_client_that_was_closed_while_idle_sends_no_more(agent: Agent, connect: Connect) -> None:
    client = connect(agent.uri)
    client.send("GET", "/")
    client.close()
    assert failure(client).kind == "unreachable"
    assert len(agent.requests) == 1
