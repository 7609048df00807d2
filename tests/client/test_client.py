"""The client against servers that answer well, badly, slowly or not at all."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stator.client.client import MAX_ANSWER, Client, ClientConfig, ClientError
from stator.log.redact import redact_headers
from stator.settings.declare import Secret
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.fakes import OK, Agent, MisbehavingServer, drips, hangs, says
from tests.program import eventually

TIMEOUT, TIMEOUT_SHORT = Duration.parse("400ms"), Duration.parse("200ms")
# What an answer that is cut short may take beyond the timeouts on a busy machine.
SLACK = 1.0


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as made:
        yield made


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


Connects = Callable[..., Client]


@pytest.fixture
def connects(story: CapturedLog) -> Iterator[Connects]:
    """Makes clients, whose connections are closed in the end."""
    clients: list[Client] = []

    def connect(uri: str, **settings: Any) -> Client:
        clients.append(
            ClientConfig(base_uri=uri, **{"timeout": TIMEOUT, "timeout_short": TIMEOUT_SHORT} | settings).build(
                story.log
            )
        )
        return clients[-1]

    yield connect
    for client in clients:
        if client._pool is not None:
            client._pool.clear()


def failure(client: Client, method: str = "PUT", path: str = "/v1/agent", **settings: Any) -> ClientError:
    with pytest.raises(ClientError) as raised:
        client.send(method, path, **settings)
    return raised.value


def test_a_request_carries_what_it_should(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri, headers=("X-One", "1", "X-Two", "two words"))
    answer = client.send("PUT", "/v1/agent?pretty=true", {"a": "ä"}, headers={"X-Three": "3"})
    (asked,) = agent.requests
    assert (answer.status, answer.body) == (200, b"")
    assert (asked.method, asked.path) == ("PUT", "/v1/agent?pretty=true")
    assert json.loads(asked.body) == {"a": "ä"}
    assert asked.headers["Host"] == agent.uri.removeprefix("http://")
    assert asked.headers["Content-Type"] == asked.headers["Accept"] == "application/json"
    assert asked.headers["User-Agent"].startswith("stator")
    assert [asked.headers[name] for name in ("X-One", "X-Two", "X-Three")] == ["1", "two words", "3"]


def test_a_request_without_payload_has_no_body(agent: Agent, connects: Connects) -> None:
    connects(agent.uri).send("PUT", "/v1/agent")
    assert agent.requests[0].body == b""
    assert "Content-Type" not in agent.requests[0].headers


def test_an_answer_comes_with_its_body_and_headers(connects: Connects) -> None:
    with Agent(body=b'{"a":1}', headers={"X-Consul-Index": "7"}) as agent:
        answer = connects(agent.uri).send("GET", "/v1/agent")
    assert (answer.body, answer.headers["X-Consul-Index"]) == (b'{"a":1}', "7")


def test_the_base_uris_path_comes_first(agent: Agent, connects: Connects) -> None:
    connects(f"{agent.uri}/consul/").send("PUT", "/v1/agent")
    assert agent.requests[0].path == "/consul/v1/agent"


def test_names_and_passwords_of_any_language_are_sent(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri, user="Žofie", password=Secret("пароль"), headers=("X-City", "Zürich"))
    client.send("PUT", "/v1/agent")
    scheme, _, known = agent.requests[0].headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(known).decode()) == ("Basic", "Žofie:пароль")
    assert agent.requests[0].headers["X-City"].encode("latin-1").decode() == "Zürich"


def test_a_password_without_user_is_not_sent(agent: Agent, connects: Connects) -> None:
    connects(agent.uri, password=Secret("hunter2")).send("PUT", "/v1/agent")
    assert "Authorization" not in agent.requests[0].headers


def test_request_and_response_are_told_as_the_original_tells_them(
    agent: Agent, connects: Connects, story: CapturedLog
) -> None:
    agent.body = b"done"
    connects(agent.uri).send("PUT", "/v1/agent?a=1&a=2&b=", {"x": 1})
    request, response = story.lines
    assert [line["msg"] for line in story.lines] == ["sending request", "received response"]
    assert request["request_id"] == response["request_id"]
    assert (request["method"], request["scheme"], request["path"]) == ("PUT", "http", "/v1/agent")
    assert request["host"] == agent.uri.removeprefix("http://")
    assert json.loads(request["query"]) == {"a": ["1", "2"], "b": [""]}
    assert json.loads(request["headers"])["Content-Type"] == ["application/json"]
    assert request["body"] == '{"x":1}'
    assert (response["status"], response["path"], response["body"]) == (200, "/v1/agent", "done")
    assert json.loads(response["headers"])["Content-Length"] == ["4"]
    assert 0 < response["elapsed"] < SLACK * 1e9


def test_every_request_has_an_id_of_its_own(agent: Agent, connects: Connects, story: CapturedLog) -> None:
    client = connects(agent.uri)
    client.send("PUT", "/v1/agent")
    client.send("PUT", "/v1/agent")
    assert len({line["request_id"] for line in story.lines}) == 2


def test_a_request_can_be_told_at_a_lower_level(agent: Agent, connects: Connects, story: CapturedLog) -> None:
    connects(agent.uri).send("PUT", "/v1/agent", level="debug")
    assert {line["level"] for line in story.lines} == {"debug"}


def test_a_body_that_holds_secrets_is_told_as_it_may_be_shown(
    agent: Agent, connects: Connects, story: CapturedLog
) -> None:
    connects(agent.uri).send("PUT", "/v1/agent", {"key": "secret"}, shown={"key": "--redacted--"})
    assert json.loads(agent.requests[0].body) == {"key": "secret"}
    assert json.loads(story.lines[0]["body"]) == {"key": "--redacted--"}
    assert "secret" not in story.text


def test_bodies_can_be_left_out_of_the_log(agent: Agent, connects: Connects, story: CapturedLog) -> None:
    agent.body = b"private answer"
    client = connects(agent.uri, skip_body=True)
    client.send("PUT", "/v1/agent", {"private": "request"})
    agent.body = b""
    client.send("PUT", "/v1/agent")
    assert "private" not in story.text
    assert [line["body"] for line in story.lines] == ["--skipped--", "--skipped--", "", ""]


def test_no_secret_is_in_any_line(connects: Connects, story: CapturedLog) -> None:
    headers = ("X-Api-Key", "secret-1", "Authorization", "secret-2", "X-Open", "open")
    answered = {"Set-Cookie": "secret-3", "x-api-key": "secret-4", "X-Open": "open too"}
    with Agent(500, b"no", answered) as agent:
        client = connects(
            agent.uri, headers=headers, redact_headers=("x-API-key",), user="me", password=Secret("secret-5")
        )
        failure(client, headers={"X-Consul-Token": "secret-6"})
        asked = agent.requests[0].headers
    assert (asked["X-Api-Key"], asked["X-Consul-Token"]) == ("secret-1", "secret-6")
    assert "secret" not in story.text
    assert base64.b64encode(b"me:secret-5").decode() not in story.text
    request, response = (json.loads(line["headers"]) for line in story.lines)
    assert request["X-Consul-Token"] == request["X-Api-Key"] == request["Authorization"] == ["--redacted--"]
    assert response["Set-Cookie"] == response["X-Api-Key"] == ["--redacted--"]
    assert (request["X-Open"], response["X-Open"]) == (["open"], ["open too"])


def test_headers_are_shown_by_their_canonical_names_each_with_all_of_its_values() -> None:
    headers = [("x-a", "1"), ("X-A", "2"), ("cookie", "c"), ("x-mine", "m")]
    assert redact_headers(headers, frozenset({"x-mine"})) == {
        "X-A": ["1", "2"],
        "Cookie": ["--redacted--"],
        "X-Mine": ["--redacted--"],
    }


def test_a_connection_is_used_again(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri)
    for _ in range(3):
        client.send("PUT", "/v1/agent", {"a": 1})
    assert (len(agent.requests), agent.connections) == (3, 1)


def test_a_connection_is_used_again_after_an_error_status(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri)
    agent.status, agent.body = 500, b"No cluster leader"
    failure(client)
    agent.status = 200
    client.send("PUT", "/v1/agent")
    assert agent.connections == 1


def test_a_connection_on_which_an_answer_broke_off_is_not_used_again(connects: Connects) -> None:
    with MisbehavingServer(drips(b"x", start=OK + b"Content-Length: 100\r\n\r\n")) as oddity:
        client = connects(oddity.uri)
        failure(client)
        failure(client)
        assert oddity.connections == 2


def test_a_connection_that_the_agent_closed_is_made_anew(connects: Connects) -> None:
    with MisbehavingServer(says(OK + b"Content-Length: 0\r\n\r\n")) as oddity:
        client = connects(oddity.uri)
        client.send("PUT", "/v1/agent")
        eventually(lambda: oddity.closed)
        client.send("PUT", "/v1/agent")
        assert oddity.connections == 2


@pytest.mark.parametrize(("status", "body"), [(301, b""), (400, b"bad"), (403, b"Permission denied"), (500, b"oops")])
def test_an_error_status_is_an_error_that_says_what_the_agent_said(
    agent: Agent, connects: Connects, status: int, body: bytes
) -> None:
    agent.status, agent.body, agent.headers = status, body, {"Location": f"{agent.uri}/elsewhere"}
    error = failure(connects(agent.uri))
    assert error.status == status
    assert f"PUT {agent.uri}/v1/agent was answered with status {status}" in str(error)
    assert body.decode() in str(error)
    assert len(agent.requests) == 1


NONSENSE = {
    "another protocol": (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "not an HTTP answer: 'SSH-2.0"),
    "bytes": (says(b"\x00\xff" * 1000), "not an HTTP answer"),
    "one long line": (says(b"a" * 1000, times=1000), "65536 bytes"),
    "nothing": (says(b""), "closed connection without response"),
    "no end of it": (says(OK + b"\r\n" + b"x" * 100_000, times=100), f"longer than {MAX_ANSWER} bytes"),
    "a body cut short": (says(OK + b"Content-Length: 100\r\n\r\nabc"), "3 bytes read, 97 more expected"),
    "a chunk cut short": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc"), "IncompleteRead"),
    "a chunk of no size": (says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc"), "'zz"),
    "no gzip": (says(OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"), "decompressing"),
    "a status that is none": (says(b"HTTP/1.1 999999 \r\n\r\n"), "not an HTTP answer"),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_nonsense_is_an_error_that_says_so(connects: Connects, story: CapturedLog, nonsense: str) -> None:
    act, reason = NONSENSE[nonsense]
    with MisbehavingServer(act) as oddity:
        error = failure(connects(oddity.uri))
    assert str(error).startswith(f"PUT {oddity.uri}/v1/agent: ")
    assert reason in str(error)
    assert error.status is None
    told = story.lines[-1]
    assert (told["msg"], told["reason"]) == ("no response", str(error))


SLOW = {
    "no answer": (hangs, TIMEOUT_SHORT),
    "a status line a byte at a time": (drips(OK), TIMEOUT_SHORT),
    "headers without end": (drips(b"X: y\r\n", start=OK), TIMEOUT_SHORT),
    "continuing without end": (says(b"HTTP/1.1 100 Continue\r\n\r\n", times=10**9), TIMEOUT_SHORT),
    "a body a byte at a time": (drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n"), TIMEOUT),
    "a chunk a byte at a time": (drips(b"x", start=OK + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"), TIMEOUT),
    "a body that stops": (drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n", every=9), TIMEOUT_SHORT),
}


@pytest.mark.parametrize("slowness", SLOW)
def test_a_slow_answer_is_not_waited_for(connects: Connects, slowness: str) -> None:
    act, longest = SLOW[slowness]
    with MisbehavingServer(act) as oddity:
        client = connects(oddity.uri)
        start = time.monotonic()
        error = failure(client)
        took = time.monotonic() - start
    assert "timed out" in str(error).lower() or "took too long" in str(error)
    assert longest.seconds * 0.9 < took < longest.seconds + SLACK


def test_a_request_can_have_less_time_than_is_configured(connects: Connects) -> None:
    with MisbehavingServer(hangs) as oddity:
        client = connects(oddity.uri, timeout=Duration.parse("1m"), timeout_short=Duration.parse("1m"))
        start = time.monotonic()
        failure(client, timeout=0.1)
    assert time.monotonic() - start < SLACK


def test_a_port_where_nobody_listens_is_an_error(connects: Connects, story: CapturedLog) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert str(failure(connects(uri))) == f"PUT {uri}/v1/agent: Connection refused"
    assert [line["msg"] for line in story.lines] == ["sending request", "no response"]
    assert story.lines[1]["elapsed"] > 0


def test_a_host_that_has_no_address_is_an_error(connects: Connects) -> None:
    assert "http://nowhere.invalid" in str(failure(connects("http://nowhere.invalid")))


def test_a_header_that_can_not_be_sent_is_named_but_not_shown(
    agent: Agent, connects: Connects, story: CapturedLog
) -> None:
    error = failure(connects(agent.uri), headers={"X-Consul-Token": "secret\nline"})
    assert "X-Consul-Token" in str(error)
    assert "secret" not in str(error) + story.text
    assert agent.requests == []


def test_an_agent_that_speaks_no_tls_is_an_error(agent: Agent, connects: Connects) -> None:
    uri = agent.uri.replace("http", "https")
    assert "SSL" in str(failure(connects(uri)))


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
@pytest.mark.parametrize("content", [b"no PEM at all", b"\x30\x82\xff", None])
def test_a_bad_tls_file_is_told_at_the_start_and_is_no_more_than_an_error_later(
    agent: Agent, connects: Connects, tmp_path: Path, setting: str, content: bytes | None
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    settings: dict[str, Any] = {setting: str(file)}
    (problem,) = ClientConfig(**settings).problems()
    assert problem[0] == setting
    failure(connects(agent.uri.replace("http", "https"), **settings))


def test_tls_is_spoken_and_verified_by_the_authorities_of_the_file(
    certificate: tuple[Path, Path], connects: Connects
) -> None:
    cert, key = certificate
    with Agent(tls=certificate) as agent:
        unknown = str(failure(connects(agent.uri)))
        assert "CERTIFICATE_VERIFY_FAILED" in unknown
        assert unknown.endswith("; STTR_CLIENT_CAFILE names the authorities to trust")
        assert connects(agent.uri, ca_file=str(cert)).send("PUT", "/v1/agent").status == 200
        assert connects(agent.uri, skip_verify=True).send("PUT", "/v1/agent").status == 200
        own: dict[str, Any] = {"cert_file": str(cert), "key_file": str(key)}
        assert list(ClientConfig(ca_file=str(cert), **own).problems()) == []
        assert connects(agent.uri, ca_file=str(cert), **own).send("PUT", "/v1/agent").status == 200


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
def test_a_uri_that_leads_nowhere_is_told(uri: str) -> None:
    assert [name for name, _ in ClientConfig(base_uri=uri).problems()] == ["base_uri"]


@pytest.mark.parametrize("uri", ["http://localhost:8500", "https://consul.example.org/prefix/", "http://[::1]:8500"])
def test_a_uri_that_leads_somewhere_is_good(uri: str) -> None:
    assert list(ClientConfig(base_uri=uri).problems()) == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"headers": ("X A", "b")}, "headers"),
        ({"headers": ("X-A", "b\nX-B: c")}, "headers"),
        ({"headers": ("", "b")}, "headers"),
        ({"key_file": "/key.pem"}, "key_file"),
        ({"password": Secret("hunter2")}, "user"),
    ],
)
def test_settings_that_can_not_be_used_are_told(settings: dict[str, Any], name: str) -> None:
    assert [found for found, _ in ClientConfig(**settings).problems()] == [name]


def test_a_peer_may_take_longer_where_it_is_told_to_wait(connects: Connects) -> None:
    def late(peer: socket.socket, ended: threading.Event) -> None:
        ended.wait(2 * TIMEOUT.seconds)
        peer.sendall(OK + b"Content-Length: 4\r\n\r\nlate")

    with MisbehavingServer(late) as oddity:
        assert connects(oddity.uri).send("GET", "/", wait=5.0).body == b"late"
        assert failure(connects(oddity.uri)).failing == "timeout"


def test_whoever_waits_in_another_thread_is_cut_off_when_the_client_is_closed(connects: Connects) -> None:
    with MisbehavingServer(hangs) as oddity, ThreadPoolExecutor(1) as pool:
        client = connects(oddity.uri)
        waiting = pool.submit(failure, client, wait=60.0)
        eventually(lambda: oddity.connections)
        start = time.monotonic()
        client.close()
        assert waiting.result(5).failing == "unreachable"
        assert time.monotonic() - start < SLACK
        assert failure(client, wait=60.0).failing == "unreachable"


def test_a_client_that_was_closed_before_it_was_used_asks_nobody(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri)
    client.close()
    assert failure(client).failing == "unreachable"
    assert agent.requests == []


def test_another_client_of_the_same_settings_is_not_closed_along(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri, user="stator")
    with closing(client.another()) as another:
        client.close()
        another.send("GET", "/")
    assert "Authorization" in agent.requests[0].headers


@pytest.mark.parametrize(
    ("answer", "failing"),
    [(b"", "unreachable"), (b"SSH-2.0-OpenSSH\r\n", "invalid"), (OK + b"Content-Length: 9\r\n\r\n", "unreachable")],
)
def test_it_is_told_how_a_request_failed(connects: Connects, answer: bytes, failing: str) -> None:
    with MisbehavingServer(says(answer)) as oddity:
        assert failure(connects(oddity.uri)).failing == failing


def test_a_connection_that_is_to_be_closed_is_not_used_again(agent: Agent, connects: Connects) -> None:
    client = connects(agent.uri)
    for _ in range(20):
        client.send("GET", "/", headers={"Connection": "close"})
    assert agent.connections == 20
