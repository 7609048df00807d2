"""Requests to a wrapped ASGI application: what is counted, what is logged, and what the application sees of it."""

import asyncio
import json
import logging
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

import stator
from tests.captured_log import CapturedLog
from tests.instrumentation.scraping import counts, samples, scrape_asgi
from tests.web.asgi import Reply, call, scope

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
END: Message = {"type": "http.response.body", "body": b"done"}


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(START)
    await send(END)


def wrap(app: Any, **options: Any) -> Any:
    return stator.asgi_app(app, **{"environ": {}, "collectors": [], **options})


def ask(app: Any, target: str = "/", method: str = "GET", headers: Any = (), **more: Any) -> Reply:
    return asyncio.run(call(app, method, target, headers, **more))


def test_a_line_says_what_was_asked_and_answered_and_nothing_secret(story: CapturedLog) -> None:
    async def item(_: Request) -> Response:
        return PlainTextResponse("secret-body")

    app = wrap(Starlette(routes=[Route("/items/{id}", item)]), log=story.log)
    ask(app, "/items/7?secret=1", headers=[("Cookie", "secret"), ("X-Request-ID", "order/7")])
    (line,) = story.lines
    assert line.pop("elapsed") > 0
    assert {name: line[name] for name in line if name not in ("ts", "level")} == {
        "msg": "answered request",
        "request_id": "order/7",
        "logger": "stator.access",
        "method": "GET",
        "route": "/items/{id}",
        "path": "/items/7",
        "status": 200,
        "remote_ip": "10.1.2.3",
        "remote_port": "4567",
    }
    assert "secret" not in story.text


def test_the_program_s_two_lines_have_headers_and_no_bodies(story: CapturedLog) -> None:
    app = wrap(hello, log=story.log, access_log="full")
    ask(app, "/items?x=1", "POST", [("Authorization", "secret"), ("Accept", "*/*")], parts=(b"secret",))
    request, response = story.lines
    assert [line["msg"] for line in story.lines] == ["received request", "sending response"]
    assert json.loads(request["headers"]) == {"Authorization": ["--redacted--"], "Accept": ["*/*"]}
    assert (json.loads(request["query"]), response["status"]) == ({"x": ["--redacted--"]}, 200)
    assert json.loads(response["headers"]) == {"Content-Type": ["text/plain"]}
    assert request["request_id"] == response["request_id"]
    assert "secret" not in story.text
    assert "body" not in request
    assert "body" not in response


def test_the_keyword_wins_over_the_variable_and_off_logs_nothing(story: CapturedLog) -> None:
    ask(wrap(hello, log=story.log, environ={"STTR_LOGGER_ACCESS": "off"}))
    ask(wrap(hello, log=story.log, access_log="off", environ={"STTR_LOGGER_ACCESS": "full"}))
    assert story.lines == []
    ask(wrap(hello, log=story.log, environ={"STTR_LOGGER_ACCESS": "full"}))
    assert len(story.lines) == 2


def test_by_default_lines_are_where_info_is_enabled(caplog: pytest.LogCaptureFixture) -> None:
    app = wrap(hello)
    ask(app)
    assert caplog.records == []
    with caplog.at_level(logging.INFO, "stator.access"):
        ask(app, "/100%s", headers=[("traceparent", f"00-{'a' * 32}-{'b' * 16}-00")])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("stator.access", "INFO")
    assert record.getMessage().startswith("answered request request_id='")
    assert "path='/100%s' status=200" in record.getMessage()
    assert vars(record)["stator"]["trace_id"] == "a" * 32


def test_all_that_is_logged_for_a_request_has_its_ids(story: CapturedLog) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        story.log.info("inside")
        await asyncio.to_thread(story.log.info, "in a thread")
        await hello(_scope, _receive, send)

    reply = ask(wrap(app, log=story.log), headers=[("traceparent", f"00-{'a' * 32}-{'b' * 16}-00")])
    assert [line["msg"] for line in story.lines] == ["inside", "in a thread", "answered request"]
    ids = ("request_id", "trace_id", "span_id", "parent_span_id")
    assert len({tuple(line[name] for name in ids) for line in story.lines}) == 1
    assert story.lines[0]["request_id"] == reply.headers["x-request-id"]
    story.log.info("after it")
    assert "request_id" not in story.lines[-1]


def test_an_id_that_the_application_sends_itself_stays_alone() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"x-request-id", b"mine")]})
        await send(END)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(wrap(app)(scope("GET", "/"), asyncio.Queue().get, send))
    assert sent[0]["headers"] == [(b"x-request-id", b"mine")]


@pytest.mark.parametrize("own", [[], [(b"x-request-id", b"mine")]])
def test_headers_may_be_an_iterator(own: list[tuple[bytes, bytes]]) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({**START, "headers": iter([(b"content-type", b"text/plain"), *own])})
        await send(END)

    headers = ask(wrap(app)).headers
    assert headers["content-type"] == "text/plain"
    assert bool(own) == (headers["x-request-id"] == "mine")


def test_what_the_application_sends_is_left_as_it_is() -> None:
    ask(wrap(hello))
    assert START["headers"] == [(b"content-type", b"text/plain")]


@pytest.mark.parametrize(
    ("sends", "count"),
    [
        ([], ("GET", "", "500", "LookupError")),
        ([START], ("GET", "", "200", "LookupError")),
        ([START, {**END, "more_body": True}], ("GET", "", "200", "LookupError")),
        ([{**START, "status": 500}, END], ("GET", "", "500", "LookupError")),
        ([START, END], ("GET", "", "200", "")),  # the client has all: what failed came after it
    ],
)
def test_an_exception_passes_through_and_is_counted_where_it_ended_the_request(
    sends: list[Message], count: tuple[str, ...]
) -> None:
    error = LookupError("no such shelf")

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in sends:
            await send(message)
        raise error

    wrapped = wrap(app)
    with pytest.raises(LookupError) as caught:
        ask(wrapped)
    assert caught.value is error
    assert counts(scrape_asgi(wrapped)) == {count: 1}


def test_a_client_that_leaves_is_no_error() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def leave() -> None:
        messages: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b""}]

        async def receive() -> Message:
            return messages.pop()

        async def send(_: Message) -> None:
            """Takes it."""

        await wrapped(scope("GET", "/"), receive, send)
        task = asyncio.create_task(wrapped(scope("PUT", "/"), asyncio.Queue().get, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    wrapped = wrap(app)
    asyncio.run(leave())
    assert counts(scrape_asgi(wrapped)) == {("GET", "", "200", ""): 1, ("PUT", "", "200", ""): 1}


def test_a_background_task_is_not_part_of_the_request() -> None:
    counted: list[Any] = []

    async def later() -> None:
        text = (await call(wrapped, "GET", "/metrics")).body.decode()
        counted.extend([counts(text), samples(text, "http_server_active_requests")])

    async def item(_: Request) -> Response:
        return PlainTextResponse("item", background=BackgroundTask(later))

    wrapped = wrap(Starlette(routes=[Route("/", item)]))
    ask(wrapped)
    assert counted == [{("GET", "/", "200", ""): 1}, {("GET", "http"): 0}]


def test_a_request_is_active_until_it_is_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        seen.append(samples((await call(wrapped, "GET", "/metrics")).body.decode(), "http_server_active_requests"))
        await send(END)

    seen: list[Any] = []
    wrapped = wrap(app)
    ask(wrapped)
    assert seen == [{("GET", "http"): 1}]


@pytest.mark.parametrize("fails", [False, True])
def test_websockets_count_as_open_alone(fails: bool) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(samples((await call(wrapped, "GET", "/metrics")).body.decode(), "stator_websockets_active"))
        if fails:
            raise LookupError

    seen: list[Any] = []
    wrapped = wrap(app)
    try:
        ask(wrapped, type="websocket")
    except LookupError:
        assert fails
    text = scrape_asgi(wrapped)
    assert (seen, samples(text, "stator_websockets_active")) == ([{(): 1}], {(): 0})
    assert counts(text) == {}


def test_other_scopes_pass() -> None:
    seen = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    asyncio.run(wrap(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_any_other_framework_says_its_route_itself(story: CapturedLog) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/items/1":
            await asyncio.to_thread(stator.set_route, "/items/{id}")
        else:
            scope["stator.route"] = "/others/{id}"
        await hello(scope, receive, send)

    wrapped = wrap(app, log=story.log)
    ask(wrapped, "/items/1")
    ask(wrapped, "/others/1")
    assert counts(scrape_asgi(wrapped)) == {("GET", "/items/{id}", "200", ""): 1, ("GET", "/others/{id}", "200", ""): 1}
    assert [line["route"] for line in story.lines] == ["/items/{id}", "/others/{id}"]


@pytest.mark.parametrize("is_middleware", [True, False])
def test_a_client_that_leaves_in_the_midst_of_an_upload_is_no_error(is_middleware: bool) -> None:
    async def upload(request: Request) -> Response:
        return Response(await request.body())

    app = Starlette(routes=[Route("/upload", upload, methods=["POST"])])
    if is_middleware:
        app.add_middleware(stator.asgi_app, environ={}, collectors=[])
    wrapped = app if is_middleware else wrap(app)

    async def leave() -> None:
        messages: list[Message] = [
            {"type": "http.disconnect"},
            {"type": "http.request", "body": b"a", "more_body": True},
        ]

        async def receive() -> Message:
            return messages.pop()

        async def send(_: Message) -> None:
            """Takes it."""

        await wrapped(scope("POST", "/upload"), receive, send)

    with pytest.raises(ClientDisconnect):
        asyncio.run(leave())
    assert counts(scrape_asgi(wrapped)) == {("POST", "/upload", "", ""): 1}


@pytest.mark.parametrize("route", [7, b"/items", ["/items"]])
def test_a_route_that_is_no_text_is_logged_and_counts_as_none(route: Any, story: CapturedLog) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        stator.set_route(route)
        await hello(scope, receive, send)

    wrapped = wrap(app, log=story.log)
    assert ask(wrapped, "/items/1").status == 200
    assert counts(scrape_asgi(wrapped)) == {("GET", "", "200", ""): 1}
    (line,) = story.lines_with("failed to observe a request")
    assert line["error"]["message"] == f"a route must be a str, not a {type(route).__name__}"


def test_a_route_that_is_not_utf_8_spoils_no_other() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        stator.set_route(scope["path"].replace("\0", "\ud800"))
        await hello(scope, receive, send)

    wrapped = wrap(app)
    for path in ("/%00", "/é"):
        ask(wrapped, path)
    assert counts(scrape_asgi(wrapped)) == {("GET", r"/\ud800", "200", ""): 1, ("GET", "/é", "200", ""): 1}


def test_set_route_outside_of_a_request_does_nothing() -> None:
    stator.set_route("/items/{id}")


def test_our_own_paths_and_excluded_templates_are_not_counted() -> None:
    async def item(_: Request) -> Response:
        return PlainTextResponse("item")

    routes = [Route("/items/{id}", item), Route("/live/{id}", item), Route("/live", item)]
    wrapped = wrap(Starlette(routes=routes), exclude=["/live/{id}"])
    for path in ("/metrics", "/monitor", "/monitor/live/", "/items/1", "/live/1", "/live"):
        assert ask(wrapped, path).status == 200
    assert {count[1] for count in counts(scrape_asgi(wrapped))} == {"/items/{id}", "/live"}


def test_mounts_of_every_kind_give_templates(tmp_path: Any) -> None:
    async def item(_: Request) -> Response:
        return PlainTextResponse("item")

    (tmp_path / "a.css").write_text("a")
    inner = CORSMiddleware(Starlette(routes=[Route("/{id}", item), Mount("/deep/{x}", routes=[Route("/{y}", item)])]))
    routes = [
        Mount("/static", StaticFiles(directory=tmp_path)),
        Mount("/a/{name}", inner),
        Mount("/b", inner),
        Mount("", Starlette(routes=[Route("/last/{id}", item)])),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(CORSMiddleware, allow_origins=["*"])])
    wrapped = wrap(CORSMiddleware(app))
    paths = ("/static/a.css", "/static/none", "/a/x/1", "/b/1", "/b/deep/1/2", "/a/x/deep/1/2", "/last/1", "/last")
    for path in paths:
        ask(wrapped, f"/svc{path}", root_path="/svc")
    assert {(route, status) for _, route, status, _ in counts(scrape_asgi(wrapped))} == {
        ("/static", "200"),
        ("/static", "404"),
        ("/a/{name}/{id}", "200"),
        ("/b/{id}", "200"),
        ("/b/deep/{x}/{y}", "200"),
        ("/a/{name}/deep/{x}/{y}", "200"),
        ("/last/{id}", "200"),
        ("", "404"),
    }


def test_routers_that_fastapi_includes_twice_give_templates_with_their_prefixes() -> None:
    things, inner, app = APIRouter(prefix="/things"), APIRouter(prefix="/in/{town}"), FastAPI()
    things.get("/{name}")(lambda name: name)
    inner.include_router(things)
    inner.include_router(things, prefix="/again")
    app.include_router(inner)
    app.include_router(things)
    app.root_path = "/api"
    wrapped = wrap(app)
    for path in ("/things/a", "/api/things/a", "/in/bonn/things/a", "/in/bonn/again/things/a"):
        assert ask(wrapped, path).status == 200
    assert ask(wrapped, "/in/bonn/things/a", "DELETE").status == 405
    assert counts(scrape_asgi(wrapped)) == {
        ("GET", "/things/{name}", "200", ""): 2,
        ("GET", "/in/{town}/things/{name}", "200", ""): 1,
        ("GET", "/in/{town}/again/things/{name}", "200", ""): 1,
        ("DELETE", "/in/{town}/things/{name}", "405", ""): 1,
    }


def test_an_application_that_is_mounted_in_another_has_templates_of_its_own() -> None:
    async def item(_: Request) -> Response:
        return PlainTextResponse("item")

    shared = Starlette(routes=[Route("/{y}", item)])
    wrapped = wrap(Starlette(routes=[Route("/items/{id}", item), Mount("/a/{x}", shared), Mount("/b", shared)]))
    outer = Starlette(routes=[Mount("/shops/{town}", wrapped)])
    for path in ("/shops/bonn/items/1", "/shops/bonn/a/1/2", "/shops/bonn/none/1/2"):
        ask(outer, path)
    assert counts(scrape_asgi(wrapped)) == {
        ("GET", "/items/{id}", "200", ""): 1,
        ("GET", "/a/{x}/{y}", "200", ""): 1,
        ("GET", "", "404", ""): 1,
    }


def test_what_middleware_answers_counts_under_the_route_that_was_asked_for() -> None:
    class Refusing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("no", 401)(scope, receive, send)

    async def item(_: Request) -> Response:
        return PlainTextResponse("item")

    wrapped = wrap(Starlette(routes=[Route("/items/{id}", item)], middleware=[Middleware(Refusing)]))
    assert ask(wrapped, "/items/1").status == 401
    assert counts(scrape_asgi(wrapped)) == {("GET", "/items/{id}", "401", ""): 1}


def test_sizes_of_bodies_are_exact() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await hello(_scope, receive, send)

    wrapped = wrap(app, body_sizes=True)
    ask(wrapped, "/", "POST", parts=(b"12", b"345"))
    text = scrape_asgi(wrapped)
    assert list(samples(text, "http_server_request_body_size_bytes_sum").values()) == [5]
    assert list(samples(text, "http_server_response_body_size_bytes_sum").values()) == [4]


def test_service_version_and_instance_are_in_target_info() -> None:
    wrapped = wrap(hello, service="shop", version="1.4", environ={"STTR_ROSTER_SERVICE_ID": "shop-1"})
    assert 'target_info{service_name="shop",service_version="1.4",service_instance_id="shop-1"} 1' in scrape_asgi(
        wrapped
    )


def test_the_buckets_and_the_limit_of_series_are_settings() -> None:
    wrapped = wrap(hello, environ={"STTR_METRICS_BUCKETS": "0.5,60", "STTR_METRICS_MAXSERIES": "1"})
    ask(wrapped)
    ask(wrapped, method="POST")
    text = scrape_asgi(wrapped)
    bounds = {labels[-1] for labels in samples(text, "http_server_request_duration_seconds_bucket")}
    assert bounds == {"0.5", "60.0", "+Inf"}
    assert counts(text) == {("GET", "", "200", ""): 1, ("POST", "_OTHER", "200", ""): 1}
