"""What the application answers to a request."""

import asyncio
import gzip
import json
import threading
import time
import warnings
from collections.abc import Callable

import falcon.testing
import pytest

from stator.exporter import Exporter, MetricsConfig
from stator.exposition.negotiation import Negotiator
from stator.points import Collector, Point, PointsAt
from stator.web.access_log import App, Message
from stator.web.app import asgi_app, wsgi_app
from stator.web.checks import Checks
from stator.web.health import Check
from tests.captured_log import CapturedLog
from tests.program import eventually
from tests.web.asgi import Reply, call, scope

CONFIG = {"version": "1.2.3", "client": {"password": "--redacted--"}}


class Up:
    """Collects a point, by way of a function that may fail or take its time."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self._act = act

    def collect(self, now: float) -> PointsAt:
        self._act()
        return PointsAt("is", now, points=[Point("up", "", 1)])


def app_of(story: CapturedLog, collector: Collector) -> App:
    app: App = asgi_app(Exporter({"up": collector}, MetricsConfig(), (), story.log), Negotiator(), CONFIG, story.log)
    return app


@pytest.fixture
def app(story: CapturedLog) -> App:
    return app_of(story, Up())


def ask(app: App, method: str, target: str) -> Reply:
    return asyncio.run(call(app, method, target))


def test_metrics_have_the_points_and_the_content_type_of_their_format(app: App) -> None:
    reply = ask(app, "GET", "/metrics")
    assert reply.status == 200
    assert b"\nis_up 1 " in reply.body
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_monitor_says_ok_as_the_original_does(app: App) -> None:
    reply = ask(app, "GET", "/monitor")
    assert (reply.status, reply.body) == (200, b'{"status":"ok"}')
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("checks", "is_draining", "ready"),
    [
        ({}, False, (200, b'{"status":"ok"}')),
        ({"db": lambda: False}, False, (503, b'{"status":"failing","checks":{"db":"the check returned False"}}')),
        ({}, True, (503, b'{"status":"draining"}')),
        ({"db": lambda: False}, True, (503, b'{"status":"draining"}')),
    ],
    ids=["passing", "failing", "draining", "failing and draining"],
)
def test_a_service_is_ready_unless_it_fails_or_drains_and_live_always(
    story: CapturedLog, checks: dict[str, Check], ready: tuple[int, bytes], *, is_draining: bool
) -> None:
    health = Checks(checks, story.log, is_draining=lambda: is_draining)
    exporter = Exporter({}, MetricsConfig(), (), story.log)
    app = asgi_app(exporter, Negotiator(), None, story.log, health)
    client = falcon.testing.TestClient(wsgi_app(exporter, Negotiator(), story.log, health))
    for path, expected in (("", ready), ("/ready", ready), ("/live", (200, b'{"status":"ok"}'))):
        reply, over_wsgi = ask(app, "GET", f"/monitor{path}"), client.simulate_get(f"/monitor{path}")
        assert (reply.status, reply.body) == (over_wsgi.status_code, over_wsgi.content) == expected
        assert reply.headers["content-type"] == over_wsgi.headers["content-type"] == "application/json"


def test_config_is_the_one_that_was_loaded(app: App) -> None:
    reply = ask(app, "GET", "/config")
    assert (reply.status, json.loads(reply.body)) == (200, {"config": CONFIG})
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/metrics", "/monitor", "/monitor/live", "/monitor/ready", "/config"])
def test_head_gets_the_headers_of_get_and_no_body(app: App, path: str) -> None:
    get, head = ask(app, "GET", path), ask(app, "HEAD", path)
    assert (head.status, head.headers.keys(), head.body) == (200, get.headers.keys(), b"")
    if path != "/metrics":  # of which no two are the same
        assert head.headers["content-length"] == str(len(get.body))


@pytest.mark.parametrize("path", ["/metrics", "/monitor", "/monitor/live", "/monitor/ready", "/config"])
def test_a_slash_at_the_end_changes_nothing(app: App, path: str) -> None:
    without, with_slash = ask(app, "GET", path), ask(app, "GET", f"{path}/")
    assert (with_slash.status, with_slash.headers.keys()) == (200, without.headers.keys())
    assert with_slash.body[:15] == without.body[:15]


def test_over_wsgi_the_answers_are_the_same(app: App, story: CapturedLog) -> None:
    def fail() -> None:
        msg = "no such table"
        raise LookupError(msg)

    exporter = Exporter({"up": Up()}, MetricsConfig(), (), story.log)
    for checks, status in (Checks({}, story.log), 200), (Checks({"db": fail}, story.log), 503):
        client = falcon.testing.TestClient(wsgi_app(exporter, Negotiator(), story.log, checks))
        for path in ("/metrics", "/metrics/"):
            reply, expected = client.simulate_get(path), ask(app, "GET", path)
            assert (reply.status_code, reply.headers.keys()) == (expected.status, expected.headers.keys())
            assert "\nis_up 1 " in reply.text
        for path in ("/monitor", "/monitor/"):
            assert client.simulate_get(path).status_code == client.simulate_head(path).status_code == status
        assert client.simulate_get("/config").json == {"not": "found"}


def test_applications_that_are_dropped_leave_no_threads(story: CapturedLog) -> None:
    before = threading.active_count()
    for _ in range(100):
        exporter = Exporter({"up": Up()}, MetricsConfig(), (), story.log)
        dropped = wsgi_app(exporter, Negotiator(), story.log, Checks({"db": lambda: None}, story.log))
        client = falcon.testing.TestClient(dropped)
        assert client.simulate_get("/metrics").status_code == client.simulate_get("/monitor").status_code == 200
    eventually(lambda: threading.active_count() <= before)


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics//", "/metrics/x", "/%ff", "/nope?a=b"])
def test_another_path_is_not_found_as_in_the_original(app: App, path: str) -> None:
    reply = ask(app, "GET", path)
    assert (reply.status, reply.body) == (404, b'{"not":"found"}')
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_another_method_is_answered_with_those_that_are_allowed(app: App, method: str) -> None:
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


def test_an_unexpected_error_is_logged_in_full_and_answered_in_brief(story: CapturedLog) -> None:
    def fail() -> float:
        msg = "the database's password is hunter2"
        raise RuntimeError(msg)

    exporter = Exporter({}, MetricsConfig(), (), story.log, now=fail)
    reply = ask(asgi_app(exporter, Negotiator(), CONFIG, story.log), "GET", "/metrics")
    assert (reply.status, reply.body) == (500, b'{"error":"internal server error"}')
    assert story.line["error"]["type"] == "RuntimeError"
    assert "in fail" in story.line["error"]["traceback"]


def test_a_slow_scrape_delays_nobody_else(story: CapturedLog) -> None:
    go = threading.Event()
    app = app_of(story, Up(lambda: go.wait(10)))

    async def both() -> tuple[Reply, Reply]:
        slow = asyncio.create_task(call(app, "GET", "/metrics"))
        quick = await call(app, "GET", "/monitor")
        assert not slow.done()
        go.set()
        return await slow, quick

    assert [reply.status for reply in asyncio.run(both())] == [200, 200]


def test_scrapes_that_come_together_share_an_answer_if_no_collector_may_block(story: CapturedLog) -> None:
    class Counts(Up):
        calls = 0

        def is_nonblocking(self) -> bool:
            return True

        def collect(self, now: float) -> PointsAt:
            self.calls += 1
            return super().collect(now)

    counts = Counts()
    app = app_of(story, counts)

    async def together() -> list[Reply]:
        return await asyncio.gather(*(call(app, "GET", "/metrics") for _ in range(5)))

    for times in (1, 2):
        assert {reply.status for reply in asyncio.run(together())} == {200}
        assert counts.calls == times


def test_a_client_that_leaves_takes_the_answer_from_nobody(story: CapturedLog) -> None:
    go = threading.Event()
    app = app_of(story, Up(lambda: go.wait(10)))

    async def leave() -> Reply:
        clients = [asyncio.create_task(call(app, "GET", "/metrics")) for _ in range(3)]
        await asyncio.sleep(0.05)
        clients[0].cancel()
        clients[1].cancel()
        await asyncio.sleep(0.05)
        go.set()
        return await clients[2]

    assert b"\nis_up 1 " in asyncio.run(leave()).body


def test_a_big_answer_is_made_and_compressed_outside_of_the_event_loop(story: CapturedLog) -> None:
    labels = [(("key", str(number)), ("more", "x" * 40)) for number in range(50_000)]

    class Big:
        def collect(self, now: float) -> PointsAt:
            return PointsAt("big", now, points=[Point("thing", "", now + 0.1, labels=each) for each in labels])

    app = app_of(story, Big())

    async def both() -> tuple[Reply, float]:
        scrape = asyncio.create_task(call(app, "GET", "/metrics", [("Accept-Encoding", "gzip")]))
        longest = 0.0
        while not scrape.done():
            began = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - began)
        return await scrape, longest

    began = time.monotonic()
    reply, longest = asyncio.run(both())
    assert gzip.decompress(reply.body).count(b"\nbig_thing{") == 50_000
    assert longest < (time.monotonic() - began) / 2


@pytest.mark.parametrize("path", ["/metrics", "/nope"])
def test_a_web_socket_is_refused_without_an_error(app: App, story: CapturedLog, path: str) -> None:
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
