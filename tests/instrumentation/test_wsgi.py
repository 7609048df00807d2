"""Requests to a wrapped WSGI application: what is counted, what is logged, and what both sides see of it."""

import io
import json
import random
import sys
import wsgiref.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from flask import Flask, got_request_exception
from prometheus_client.openmetrics import parser as openmetrics
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

import stator
from stator.log.logger import LoggerConfig
from tests.captured_log import CapturedLog
from tests.instrumentation.scraping import ask_wsgi, counts, samples, scrape_wsgi, wsgi_environ

HEADERS = [("Content-Type", "text/plain")]
Start = Callable[..., Any]


def wrap(app: Any, **options: Any) -> Any:
    return stator.wsgi_app(app, **{"environ": {}, "collectors": [], **options})


def hello(_environ: Any, start: Start) -> list[bytes]:
    start("200 OK", HEADERS)
    return [b"done"]


class Body:
    """A body that notes what the server does with it."""

    def __init__(self, *parts: Any) -> None:
        self.parts, self.closed = parts, 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, BaseException):
                raise part
            yield part

    def close(self) -> None:
        self.closed += 1


def answering(body: Any, status: str = "200 OK") -> Any:
    def app(_environ: Any, start: Start) -> Any:
        start(status, HEADERS)
        return body

    return app


def test_applications_that_one_stator_wraps_count_together() -> None:
    shop = stator.Stator(environ={}, collectors=[])
    first = shop.wsgi_app(hello)
    ask_wsgi(first, "/")
    second = shop.wsgi_app(hello)
    ask_wsgi(second, "/")
    ask_wsgi(first, "/")
    for app in (first, second):
        assert counts(scrape_wsgi(app)) == {("GET", "", "200", ""): 3}


@pytest.mark.parametrize("length", ["9" * 308, "9" * 400, "-5", "x"])
def test_a_body_is_not_as_long_as_a_client_likes_to_say(length: str) -> None:
    wrapped = wrap(hello, body_sizes=True)
    environ = wsgi_environ("/", "POST") | {"CONTENT_LENGTH": length}
    b"".join(wrapped(environ, lambda *_: None))
    assert list(samples(scrape_wsgi(wrapped), "http_server_request_body_size_bytes_sum").values()) == [0]


def test_ids_differ_though_the_application_seeds_random() -> None:
    def app(environ: Any, start: Start) -> list[bytes]:
        random.seed(42)
        seen.add((environ["HTTP_X"], random.random()))
        return hello(environ, start)

    seen: set[tuple[str, float]] = set()
    replies = [ask_wsgi(wrap(app), "/", headers=[("X", "")]) for _ in range(3)]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 3
    assert len(seen) == 1


def test_flask_signals_of_an_error_outside_of_a_request_pass() -> None:
    app = Flask(__name__)
    wrap(app)
    with app.app_context():
        got_request_exception.send(app, exception=ValueError())


def test_an_application_may_be_mounted_in_itself() -> None:
    app = Flask(__name__)
    app.get("/items")(lambda: "")
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/v1": app})  # type: ignore[method-assign]
    wrapped = wrap(app)
    ask_wsgi(wrapped, "/v1/items")
    assert counts(scrape_wsgi(wrapped)) == {("GET", "/v1/items", "200", ""): 1}


def test_a_line_says_what_was_asked_and_answered(story: CapturedLog) -> None:
    ask_wsgi(wrap(hello, log=story.log), "/items/\xc3\xa4?secret=1", headers=[("Cookie", "secret")])
    (line,) = story.lines
    assert (line["msg"], line["logger"], line["path"], line["status"]) == (
        "answered request",
        "stator.access",
        "/items/ä",
        200,
    )
    assert (line["remote_ip"], line["remote_port"], line["route"]) == ("10.1.2.3", "4567", "")
    assert "secret" not in story.text


def test_the_program_s_two_lines_have_headers_and_no_bodies(story: CapturedLog) -> None:
    app = wrap(hello, log=story.log, access_log="full")
    ask_wsgi(app, "/items?x=1", "POST", [("Authorization", "secret"), ("X-Mine", "1")])
    request, response = story.lines
    headers = json.loads(request["headers"])
    assert (headers["Authorization"], headers["X-Mine"], headers["Host"]) == (
        ["--redacted--"],
        ["--redacted--"],
        ["127.0.0.1"],
    )
    assert (request["msg"], json.loads(request["query"])) == ("received request", {"x": ["--redacted--"]})
    assert (response["msg"], json.loads(response["headers"])) == ("sending response", {"Content-Type": ["text/plain"]})


@pytest.mark.parametrize(("mode", "messages"), [("line", 1), ("full", 2)])
def test_an_answered_request_of_a_quiet_path_is_logged_at_debug(tmp_path: Path, mode: Any, messages: int) -> None:
    environ = {"STTR_LOGGER_QUIETPATHS": "/health,/internal/*"}
    with CapturedLog(tmp_path / "log", LoggerConfig(level="debug")) as story:
        app = wrap(hello, log=story.log, access_log=mode, environ=environ)
        for path in ("/health", "/internal/x", "/healthy"):
            ask_wsgi(app, path)
        app = wrap(answering([b""], "404 Not Found"), log=story.log, access_log=mode, environ=environ)
        ask_wsgi(app, "/health")
        levels = [line["level"] for line in story.lines]
    assert levels == ["debug"] * 2 * messages + ["info"] * 2 * messages


def test_a_known_secret_in_a_path_is_masked(story: CapturedLog) -> None:
    environ = {"STTR_CONSUL_TOKEN": "geheim-123"}
    ask_wsgi(wrap(hello, log=story.log, environ=environ), "/items/geheim-123")
    assert story.line["path"] == "/items/--redacted--"


def test_ids_are_bound_while_the_body_is_made_and_until_it_is_closed(story: CapturedLog) -> None:
    class Logging(Body):
        def __iter__(self) -> Iterator[bytes]:
            story.log.info("a part")
            yield b"part"

        def close(self) -> None:
            story.log.info("closing")

    reply = ask_wsgi(wrap(answering(Logging()), log=story.log), headers=[("X-Request-ID", "order/7")])
    assert reply.headers["x-request-id"] == "order/7"
    assert [(line["msg"], line["request_id"]) for line in story.lines] == [
        ("a part", "order/7"),
        ("answered request", "order/7"),
        ("closing", "order/7"),
    ]
    story.log.info("after it")
    assert "request_id" not in story.lines[-1]


def test_a_validator_on_both_sides_finds_nothing_wrong() -> None:
    def app(_environ: Any, start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        return iter((b"one", b"two"))

    environ = wsgi_environ()
    del environ["REMOTE_PORT"]
    environ["wsgi.errors"] = sys.stderr
    body = validator(wrap(validator(app)))(environ, lambda *_: lambda _: None)
    assert b"".join(body) == b"onetwo"
    body.close()  # type: ignore[attr-defined]


def test_a_body_is_closed_exactly_once() -> None:
    body = Body(b"one", b"two")
    wrapped = wrap(answering(body))
    given = wrapped(wsgi_environ(), lambda *_: None)
    assert (list(given), body.closed) == ([b"one", b"two"], 0)
    given.close()
    given.close()
    assert body.closed == 1
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", "200", ""): 1}


def test_a_body_that_the_client_leaves_is_closed_and_counted() -> None:
    body = Body(b"one", b"two")
    wrapped = wrap(answering(body))
    given = wrapped(wsgi_environ(), lambda *_: None)
    assert next(iter(given)) == b"one"
    given.close()
    assert body.closed == 1
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", "200", ""): 1}


@pytest.mark.parametrize(("before", "status"), [((), "500"), ((b"one",), "200")])
def test_a_generator_that_fails_midway_is_closed_and_its_error_counted(before: tuple[bytes, ...], status: str) -> None:
    error = LookupError("no such shelf")
    body = Body(*before, error)
    wrapped = wrap(answering(body))
    with pytest.raises(LookupError) as caught:
        ask_wsgi(wrapped)
    assert (caught.value, body.closed) == (error, 1)
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", status, "LookupError"): 1}


def test_an_exception_passes_through_and_is_counted() -> None:
    error = LookupError("no such shelf")

    def app(_environ: Any, start: Start) -> list[bytes]:
        raise error

    wrapped = wrap(app)
    with pytest.raises(LookupError) as caught:
        ask_wsgi(wrapped)
    assert caught.value is error
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", "500", "LookupError"): 1}


def test_an_application_that_begins_again_for_an_error_is_counted_by_what_it_answers() -> None:
    seen: list[Any] = []

    def app(_environ: Any, start: Start) -> list[bytes]:
        start("200 OK", HEADERS)
        try:
            wsgi_environ()["shelf"]
        except LookupError:
            start("503 Sorry", HEADERS, sys.exc_info())
        return [b"sorry"]

    wrapped = wrap(app)
    b"".join(wrapped(wsgi_environ(), lambda *args: seen.append(args)))
    assert [args[0] for args in seen] == ["200 OK", "503 Sorry"]
    assert [len(args) for args in seen] == [2, 3]
    assert isinstance(seen[1][2][1], LookupError)
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", "503", "KeyError"): 1}


def test_the_error_that_a_server_raises_for_a_late_start_reaches_the_application() -> None:
    def app(_environ: Any, start: Start) -> list[bytes]:
        try:
            wsgi_environ()["shelf"]
        except LookupError:
            start("500 Sorry", HEADERS, sys.exc_info())
        return []

    def start(_status: str, _headers: Any, exc_info: Any) -> None:
        raise exc_info[1]

    with pytest.raises(LookupError):
        wrap(app)(wsgi_environ(), start)


def test_write_is_the_server_s_own() -> None:
    written: list[bytes] = []

    def app(_environ: Any, start: Start) -> list[bytes]:
        start("200 OK", HEADERS)(b"written")
        return []

    for has_sizes in (False, True):
        wrapped = wrap(app, body_sizes=has_sizes)
        wrapped(wsgi_environ(), lambda *_: written.append)
    assert written == [b"written"] * 2
    assert list(samples(scrape_wsgi(wrapped), "http_server_response_body_size_bytes_sum").values()) == [7]


def test_a_response_that_begins_with_its_first_part_is_counted_by_its_status() -> None:
    def app(_environ: Any, start: Start) -> Iterator[bytes]:
        start("201 Created", HEADERS)
        yield b"done"

    wrapped = wrap(app)
    assert ask_wsgi(wrapped).status == 201
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", "201", ""): 1}


def test_a_list_reaches_the_server_as_it_is() -> None:
    body = [b"one", b"two"]
    assert wrap(answering(body))(wsgi_environ(), lambda *_: None) is body


def test_a_file_reaches_the_server_in_its_own_wrapper_and_is_closed_once() -> None:
    class File(io.BytesIO):
        closed_times = 0

        def close(self) -> None:
            self.closed_times += 1
            super().close()

    file = File(b"all of it")
    wrapped = wrap(answering(wsgiref.util.FileWrapper(file)))
    given = wrapped(wsgi_environ() | {"wsgi.file_wrapper": wsgiref.util.FileWrapper}, lambda *_: None)
    assert isinstance(given, wsgiref.util.FileWrapper)
    assert counts(scrape_wsgi(wrapped)) == {}
    assert b"".join(given) == b"all of it"
    given.close()
    assert file.closed_times == 1
    assert counts(scrape_wsgi(wrapped)) == {("GET", "", "200", ""): 1}


def test_what_is_no_body_is_the_server_s_to_refuse() -> None:
    with pytest.raises(TypeError, match="'NoneType' object is not iterable"):
        ask_wsgi(wrap(answering(None)))


def test_what_the_application_sends_is_left_as_it_is() -> None:
    ask_wsgi(wrap(hello))
    assert HEADERS == [("Content-Type", "text/plain")]


def test_a_prefix_that_a_client_may_choose_is_in_no_template() -> None:
    app = Flask(__name__)
    app.get("/items/<id>")(lambda id: "item")  # noqa: A006
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    wrapped = wrap(app)
    for prefix in ("/a", "/b"):
        assert ask_wsgi(wrapped, "/items/1", headers=[("X-Forwarded-Prefix", prefix)]).status == 200
    assert counts(scrape_wsgi(wrapped)) == {("GET", "/items/<id>", "200", ""): 2}


def test_flask_wrapped_from_within_gives_templates_too() -> None:
    app = Flask(__name__)
    app.get("/items/<id>")(lambda id: "item")  # noqa: A006
    app.wsgi_app = wrapped = wrap(app.wsgi_app)  # type: ignore[method-assign]
    ask_wsgi(app, "/items/1")
    assert ask_wsgi(app, "/items/1", "POST").status == 405
    assert counts(scrape_wsgi(wrapped)) == {
        ("GET", "/items/<id>", "200", ""): 1,
        ("POST", "/items/<id>", "405", ""): 1,
    }


def test_durations_carry_the_trace_of_a_request_in_openmetrics_alone() -> None:
    app, trace = wrap(hello), "4bf92f3577b34da6a3ce929d0e0e4736"
    ask_wsgi(app, headers=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
    ask_wsgi(app)
    text = ask_wsgi(app, "/metrics", headers=[("Accept", "application/openmetrics-text")]).body.decode()
    families = openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [each.labels for each in exemplars] == [{"trace_id": trace}]
    assert 0 < exemplars[0].value < 1
    assert trace not in scrape_wsgi(app)
