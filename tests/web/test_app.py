"""What the application answers to a request."""

import asyncio
import json
import threading
import warnings
from collections.abc import Callable

import pytest

from stator.concurrency.gather import Round
from stator.exporter import Exporter, MetricsConfig, ScrapeRequest, ScrapeResponse
from stator.exposition.negotiation import Negotiator
from stator.points import Collector, Point, PointsAt
from stator.web.access_log import App, Message
from stator.web.app import asgi_app
from tests.captured_log import CapturedLog
from tests.web.asgi import Reply, call, scope

SHOWN = {"version": "1.2.3", "client": {"password": "--redacted--"}}


class Up:
    """Collects a point, by way of a function that may fail or take its time."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self._act = act

    def collect(self, now: float) -> PointsAt:
        self._act()
        return PointsAt("is", now, points=[Point("up", "", 1)])


def made(story: CapturedLog, collector: Collector) -> App:
    app: App = asgi_app(Exporter({"up": collector}, MetricsConfig(), (), story.log), Negotiator(), SHOWN, story.log)
    return app


@pytest.fixture
def app(story: CapturedLog) -> App:
    return made(story, Up())


def ask(app: App, method: str, target: str) -> Reply:
    return asyncio.run(call(app, method, target))


def test_metrics_are_what_the_exporter_says_in_its_content_type(app: App) -> None:
    reply = ask(app, "GET", "/metrics")
    assert reply.status == 200
    assert b"\nis_up 1 " in reply.body
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_monitor_says_ok_as_the_original_does(app: App) -> None:
    reply = ask(app, "GET", "/monitor")
    assert (reply.status, reply.body) == (200, b'{"status":"ok"}')
    assert reply.headers["content-type"] == "application/json"


def test_config_is_the_one_that_was_loaded(app: App) -> None:
    reply = ask(app, "GET", "/config")
    assert (reply.status, json.loads(reply.body)) == (200, {"config": SHOWN})
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/metrics", "/monitor", "/config"])
def test_head_gets_the_headers_of_get_and_no_body(app: App, path: str) -> None:
    get, head = ask(app, "GET", path), ask(app, "HEAD", path)
    assert (head.status, head.headers.keys(), head.body) == (200, get.headers.keys(), b"")
    if path != "/metrics":  # of which no two are the same
        assert head.headers["content-length"] == str(len(get.body))


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/metrics/x", "/%ff", "/nope?a=b"])
def test_another_path_is_not_found_as_in_the_original(app: App, path: str) -> None:
    reply = ask(app, "GET", path)
    assert (reply.status, reply.body) == (404, b'{"not":"found"}')
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_another_method_is_not_allowed_and_told_which_are(app: App, method: str) -> None:
    reply = ask(app, method, "/metrics")
    assert reply.status == 405
    assert set(reply.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "error" in json.loads(reply.body)


def test_a_method_that_is_none_is_a_bad_request(app: App) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reply = ask(app, "BREW", "/metrics")
    assert reply.status == 400
    assert "error" in json.loads(reply.body)


def test_an_error_that_nobody_foresaw_is_told_to_the_log_alone(story: CapturedLog) -> None:
    def fail() -> None:
        msg = "the database's password is hunter2"
        raise RuntimeError(msg)

    class Broken(Exporter):
        def begin(self, ask: ScrapeRequest) -> Round[ScrapeResponse]:
            fail()
            return super().begin(ask)

    exporter = Broken({}, MetricsConfig(), (), story.log)
    reply = ask(asgi_app(exporter, Negotiator(), SHOWN, story.log), "GET", "/metrics")
    assert (reply.status, reply.body) == (500, b'{"error":"internal server error"}')
    assert story.line["error"]["type"] == "RuntimeError"
    assert "in fail" in story.line["error"]["traceback"]


def test_a_slow_scrape_holds_up_nobody_else(story: CapturedLog) -> None:
    go = threading.Event()
    app = made(story, Up(lambda: go.wait(10)))

    async def both() -> tuple[Reply, Reply]:
        slow = asyncio.create_task(call(app, "GET", "/metrics"))
        quick = await call(app, "GET", "/monitor")
        assert not slow.done()
        go.set()
        return await slow, quick

    assert [reply.status for reply in asyncio.run(both())] == [200, 200]


@pytest.mark.parametrize("path", ["/metrics", "/nope"])
def test_a_web_socket_is_refused_without_a_fuss(app: App, story: CapturedLog, path: str) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def connect() -> None:
        await app(scope("GET", path, type="websocket", subprotocols=[]), receive, send)

    asyncio.run(connect())
    assert "websocket.accept" not in [message["type"] for message in sent]
    assert story.lines == []
