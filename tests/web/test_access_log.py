"""What is logged of a request."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from structlog.contextvars import get_contextvars

from stator.exporter import Exporter, MetricsConfig
from stator.exposition.negotiation import Negotiator
from stator.points import PointsAt
from stator.settings.paths import PathSet
from stator.web.access_log import MAX_BODY, AccessLogMiddleware, App, Message, Receive, Scope, Send
from stator.web.app import asgi_app
from tests.captured_log import CapturedLog
from tests.server.conftest import Starts
from tests.web.asgi import Reply, call, scope

BODY = (("Content-Length", "5"),)


def answering(body: bytes = b"done", headers: Iterable[tuple[bytes, bytes]] = ()) -> App:
    """An application that reads its request, and answers always the same."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


async def nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def ask(app: App, method: str = "GET", target: str = "/", *args: Any, **more: Any) -> Reply:
    return asyncio.run(call(app, method, target, *args, **more))


def test_request_and_response_are_logged_as_by_the_original(story: CapturedLog) -> None:
    app = AccessLogMiddleware(answering(b"done", [(b"content-type", b"text/plain")]), story.log)
    ask(
        app,
        "PUT",
        "/a%20b?collect[]=1&collect%5B%5D=2&token=3&token=&4",
        (("Accept", "*/*"), ("accept", "text/plain"), *BODY),
        (b"hello",),
    )
    request, response = story.lines
    assert [line["msg"] for line in story.lines] == ["received request", "sending response"]
    assert (request["method"], request["path"], request["body"]) == ("PUT", "/a b", "hello")
    assert (request["remote_ip"], request["remote_port"]) == ("10.1.2.3", "4567")
    assert json.loads(request["query"]) == {
        "collect[]": ["1", "2"],
        "token": ["--redacted--", ""],
        "--redacted--": [""],
    }
    assert json.loads(request["headers"]) == {"Accept": ["*/*", "text/plain"], "Content-Length": ["5"]}
    assert (response["status"], response["body"]) == (201, "done")
    assert json.loads(response["headers"]) == {"Content-Type": ["text/plain"]}
    assert 0 < response["elapsed"] < 10e9
    assert request["request_id"] == response["request_id"]


def test_an_address_of_ipv4_is_logged_as_one(story: CapturedLog) -> None:
    ask(AccessLogMiddleware(answering(), story.log), client=("::ffff:10.1.2.3", 1))
    assert story.lines[0]["remote_ip"] == "10.1.2.3"


def test_a_peer_without_address_is_no_trouble(story: CapturedLog) -> None:
    assert ask(AccessLogMiddleware(answering(), story.log), client=None).status == 201


def test_secret_headers_are_hidden_on_both_sides(story: CapturedLog) -> None:
    answered = [(b"set-cookie", b"secret-1"), (b"user-agent", b"secret-2"), (b"etag", b"open")]
    app = AccessLogMiddleware(answering(headers=answered), story.log, frozenset({"user-agent"}))
    sent = (
        ("Authorization", "secret-3"),
        ("Cookie", "secret-4"),
        ("User-Agent", "secret-5"),
        ("X-Any", "secret-7"),
        ("X-Consul-Token", "secret-6"),
    )
    reply = ask(app, "GET", "/", sent)
    assert reply.headers["user-agent"] == "secret-2"
    assert "secret" not in story.text
    request, response = (json.loads(line["headers"]) for line in story.lines)
    assert request == {name: ["--redacted--"] for name, _ in sent}
    assert response == {"Set-Cookie": ["--redacted--"], "User-Agent": ["--redacted--"], "Etag": ["open"]}


class Fails:
    """A collector that logs, warns by the standard library, and fails."""

    def __init__(self, story: CapturedLog) -> None:
        self._story = story

    def collect(self, now: float) -> PointsAt:
        self._story.log.info("collecting")
        msg = "no luck"
        raise OSError(msg)


def test_all_that_is_logged_for_a_request_has_its_id_in_whatever_thread(story: CapturedLog) -> None:
    exporter = Exporter({"mine": Fails(story)}, MetricsConfig(), (), story.log)
    app = AccessLogMiddleware(asgi_app(exporter, Negotiator(), {}, story.log), story.log)
    assert b'stator_collector_success{collector="mine"} 0' in ask(app, "GET", "/metrics").body
    assert [line["msg"] for line in story.lines] == (
        ["received request", "collecting", "failed to collect", "sending response"]
    )
    assert len({line["request_id"] for line in story.lines}) == 1


def test_requests_at_the_same_time_have_ids_of_their_own(story: CapturedLog) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        story.log.info("inside", path=scope["path"])
        await asyncio.sleep(0)
        await echo(scope, receive, send)

    async def many() -> None:
        await asyncio.gather(*(call(AccessLogMiddleware(app, story.log), "GET", f"/{number}") for number in range(5)))

    asyncio.run(many())
    ids = {line["path"]: line["request_id"] for line in story.lines_with("received request")}
    assert len(set(ids.values())) == 5
    assert {line["path"]: line["request_id"] for line in story.lines_with("inside")} == ids


def test_no_answer_is_sent_before_its_line_is_written(story: CapturedLog) -> None:
    app = AccessLogMiddleware(answering(), story.log)
    unsaid = []

    async def ask_for(path: str) -> None:
        async def send(message: Message) -> None:
            ids = {line["request_id"] for line in story.lines_with("received request") if line["path"] == path}
            if message["type"] == "http.response.body" and not any(
                line["request_id"] in ids for line in story.lines_with("sending response")
            ):
                unsaid.append(path)

        await app(scope("GET", path), nothing, send)

    async def many() -> None:
        await asyncio.gather(*(ask_for(f"/{number}") for number in range(5)))

    asyncio.run(many())
    assert len(story.lines_with("sending response")) == 5
    assert unsaid == []


def test_nothing_of_a_request_stays_bound_after_it(story: CapturedLog) -> None:
    async def one() -> Mapping[str, str]:
        await call(AccessLogMiddleware(answering(), story.log), "GET", "/")
        return get_contextvars()

    assert asyncio.run(one()) == {}


@pytest.mark.parametrize("parts", [(b"hello",), (b"he", b"", b"llo"), (b"hell", b"o", b"")])
def test_a_body_reaches_log_and_application_whole(story: CapturedLog, parts: tuple[bytes, ...]) -> None:
    reply = ask(AccessLogMiddleware(echo, story.log), "POST", "/", BODY, parts)
    assert reply.body == b"hello"
    assert story.lines[0]["body"] == "hello"


def test_a_body_without_a_length_is_read_too(story: CapturedLog) -> None:
    reply = ask(AccessLogMiddleware(echo, story.log), "POST", "/", (("Transfer-Encoding", "chunked"),), (b"he", b"llo"))
    assert reply.body == b"hello"


def test_a_body_of_the_greatest_length_is_passed_on(story: CapturedLog) -> None:
    body = b"x" * MAX_BODY
    assert (
        ask(AccessLogMiddleware(echo, story.log), "POST", "/", (("Content-Length", str(MAX_BODY)),), (body,)).body
        == body
    )


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ((("Content-Length", str(10**20)),), ()),
        ((("Content-Length", str(MAX_BODY + 1)),), (b"x",)),
        ((("Transfer-Encoding", "chunked"),), (b"x" * MAX_BODY, b"x", b"x" * 10**6)),
    ],
)
def test_a_body_that_is_too_long_is_refused_and_not_read_to_its_end(
    story: CapturedLog, headers: Any, parts: tuple[bytes, ...]
) -> None:
    reply = ask(AccessLogMiddleware(echo, story.log), "POST", "/", headers, parts)
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert json.loads(reply.body) == {"error": "request body too long"}
    assert [line.get("status") for line in story.lines] == [None, 413]


def test_a_body_that_does_not_come_is_refused_after_a_while(story: CapturedLog) -> None:
    reply = ask(AccessLogMiddleware(echo, story.log, timeout=0.05), "POST", "/", BODY, (b"he",), ends=False)
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    assert story.lines[0]["body"] == "he"
    assert story.lines[1]["status"] == 408


def test_a_client_that_leaves_before_its_request_is_whole_is_not_answered(story: CapturedLog) -> None:
    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    coming: list[Message] = [
        {"type": "http.request", "body": b"he", "more_body": True},
        {"type": "http.disconnect"},
    ]
    asyncio.run(AccessLogMiddleware(echo, story.log)(scope("POST", "/", BODY), receive, send))
    assert [line["msg"] for line in story.lines] == ["received request", "response was not sent"]
    assert story.lines[0]["body"] == "he"


def test_a_request_without_body_is_not_waited_for(story: CapturedLog) -> None:
    reply = ask(AccessLogMiddleware(answering(), story.log), "GET", "/")
    assert reply.status == 201


@pytest.mark.parametrize("error", [RuntimeError("oops"), asyncio.CancelledError()])
def test_a_response_that_never_comes_is_logged_too(story: CapturedLog, error: BaseException) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    with pytest.raises(type(error)):
        ask(AccessLogMiddleware(app, story.log))
    first, last = story.lines
    assert (first["msg"], last["msg"], last["level"]) == ("received request", "response was not sent", "warning")
    assert first["request_id"] == last["request_id"]


def test_a_response_in_parts_is_logged_once_when_it_ends(story: CapturedLog) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one ", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        assert not story.lines_with("sending response")
        await send({"type": "http.response.body"})

    assert ask(AccessLogMiddleware(app, story.log)).body == b"one two"
    assert len(story.lines_with("sending response")) == 1


def with_status(status: int) -> App:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    return app


QUIET = PathSet(("/metrics", "/monitor/*"))


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/monitor/ready", "/monitor/"])
def test_a_successful_request_for_a_quiet_path_is_logged_at_debug(story: CapturedLog, path: str) -> None:
    ask(AccessLogMiddleware(with_status(399), story.log, quiet_paths=QUIET), "GET", path)
    assert [(line["msg"], line["level"]) for line in story.lines] == [
        ("received request", "debug"),
        ("sending response", "debug"),
    ]
    assert len({line["request_id"] for line in story.lines}) == 1


@pytest.mark.parametrize("status", [400, 404, 503])
def test_a_failed_request_for_a_quiet_path_is_logged_as_any_other(story: CapturedLog, status: int) -> None:
    ask(AccessLogMiddleware(with_status(status), story.log, quiet_paths=QUIET), "POST", "/metrics", BODY, (b"hello",))
    request, response = story.lines
    assert (request["msg"], request["level"], request["body"]) == ("received request", "info", "hello")
    assert (response["msg"], response["level"], response["status"]) == ("sending response", "info", status)
    assert request["request_id"] == response["request_id"]


def test_a_refused_or_unanswered_request_for_a_quiet_path_is_logged_as_any_other(story: CapturedLog) -> None:
    async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
        msg = "oops"
        raise OSError(msg)

    late = AccessLogMiddleware(echo, story.log, timeout=0.05, quiet_paths=QUIET)
    ask(late, "POST", "/metrics", BODY, (b"he",), ends=False)
    with pytest.raises(OSError, match="oops"):
        ask(AccessLogMiddleware(fails, story.log, quiet_paths=QUIET), "GET", "/metrics")
    assert [(line["msg"], line["level"]) for line in story.lines] == [
        ("received request", "info"),
        ("sending response", "info"),
        ("received request", "info"),
        ("response was not sent", "warning"),
    ]


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/x", "/monitor", "/monitorx"])
def test_other_paths_are_not_quiet(story: CapturedLog, path: str) -> None:
    ask(AccessLogMiddleware(with_status(200), story.log, quiet_paths=QUIET), "GET", path)
    assert {line["level"] for line in story.lines} == {"info"}


def test_all_paths_can_be_quiet(story: CapturedLog) -> None:
    ask(AccessLogMiddleware(with_status(200), story.log, quiet_paths=PathSet(("/*",))), "GET", "/any/path")
    assert {line["level"] for line in story.lines} == {"debug"}


def test_what_is_no_http_is_passed_on_and_not_logged(story: CapturedLog) -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> Message:
        return {}

    async def nowhere(_message: Message) -> None:
        pass

    asyncio.run(AccessLogMiddleware(app, story.log)(scope("GET", "/", type="lifespan"), nothing, nowhere))
    assert (seen, story.lines) == (["lifespan"], [])


def test_the_callers_id_is_the_requests_and_is_sent_back(story: CapturedLog) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    reply = ask(
        AccessLogMiddleware(answering(), story.log),
        headers=[("X-Request-ID", "order/7"), ("traceparent", trace)],
    )
    assert reply.headers["x-request-id"] == "order/7"
    assert {line["request_id"] for line in story.lines} == {"order/7"}
    assert {(line["trace_id"], line["parent_span_id"]) for line in story.lines} == {("a" * 32, "b" * 16)}
    assert len({line["span_id"] for line in story.lines}) == 1


def test_a_new_id_is_sent_back_in_place_of_a_malformed_one(story: CapturedLog) -> None:
    reply = ask(AccessLogMiddleware(answering(), story.log), headers=[("X-Request-ID", "a" * 129)])
    assert reply.headers["x-request-id"] == story.lines[0]["request_id"]
    assert len(reply.headers["x-request-id"]) == 7


def test_one_line_a_request_has_neither_query_nor_headers_nor_bodies(story: CapturedLog) -> None:
    app = AccessLogMiddleware(answering(b"secret"), story.log, mode="line")
    ask(app, "PUT", "/a?secret=1", (("X-Mine", "secret"), *BODY), (b"secret",))
    (line,) = story.lines
    assert (line["msg"], line["method"], line["path"], line["status"]) == ("answered request", "PUT", "/a", 201)
    assert (line["remote_ip"], line["remote_port"]) == ("10.1.2.3", "4567")
    assert "secret" not in story.text


def test_no_lines_are_written_where_they_are_off(story: CapturedLog) -> None:
    assert ask(AccessLogMiddleware(answering(), story.log, mode="off")).status == 201
    assert story.lines == []


@pytest.mark.parametrize(
    ("access", "messages"),
    [("", ["received request", "sending response"]), ("line", ["answered request"]), ("off", [])],
)
def test_which_lines_the_program_writes_is_a_setting(starts: Starts, access: str, messages: list[str]) -> None:
    program = starts({"STTR_LOGGER_ACCESS": access})
    answer = program.get("/monitor", {"X-Request-ID": "order/7"})
    assert {name.lower(): value for name, value in answer.headers.items()}["x-request-id"] == "order/7"
    program.stop()
    assert [line["msg"] for line in program.lines(request_id="order/7")] == messages
