"""A part of the observation that fails is logged, and the application answers as if there were none."""

import asyncio
from contextvars import copy_context
from typing import Any, NoReturn

import pytest
from starlette.types import Message, Receive, Scope, Send

import stator
from stator.instrumentation import frameworks
from stator.instrumentation.access import AccessLog
from stator.instrumentation.asgi import ASGIExchange
from stator.instrumentation.requests import RequestMetrics
from stator.instrumentation.routes import ASGIRoutes
from stator.instrumentation.values import SharedValue
from stator.instrumentation.wsgi import WSGIExchange
from stator.log.changes import ChangeLog
from stator.log.request import RequestContext
from tests.captured_log import CapturedLog
from tests.instrumentation.scraping import ask_wsgi, counts, scrape_asgi, scrape_wsgi
from tests.web.asgi import Reply, call


async def asgi(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def wsgi(_environ: Any, start: Any) -> Any:
    start("200 OK", [])
    yield b"done"


def breaks(*_: Any, **__: Any) -> NoReturn:
    msg = "ours is broken"
    raise ZeroDivisionError(msg)


BREAKABLE = [
    ("metrics", RequestMetrics, "begin"),
    ("metrics", RequestMetrics, "count"),
    ("metrics", SharedValue, "inc"),
    ("log", AccessLog, "log_exchange"),
    ("log", ASGIExchange, "peer"),
    ("log", WSGIExchange, "peer"),
    ("ids", RequestContext, "read_ids"),
    ("ids", RequestContext, "bind"),
    ("ids", RequestContext, "release"),
    ("response", ASGIExchange, "started"),
    ("response", frameworks, "flask_rule"),
    ("response", WSGIExchange, "observed"),
    ("route", ASGIRoutes, "template"),
    ("route", WSGIExchange, "find_route"),
    ("route", frameworks, "prepare"),
    ("route", frameworks, "prefixes"),
]


@pytest.mark.parametrize(("part", "owner", "name"), BREAKABLE)
def test_the_application_answers_whatever_of_ours_is_broken(
    part: str, owner: Any, name: str, story: CapturedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, breaks)
    observability = stator.Stator(environ={}, collectors=[], log=story.log)
    on_asgi, on_wsgi = observability.asgi_app(asgi), observability.wsgi_app(wsgi)
    for _ in range(2):
        replies: list[Reply] = [
            asyncio.run(call(on_asgi, "GET", "/items/1")),
            copy_context().run(ask_wsgi, on_wsgi, "/items/1"),
        ]
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"done")] * 2
    faults = story.lines_with("failed to observe a request")
    assert [(line["part"], line["level"], line["error"]["message"]) for line in faults] == [
        (part, "error", "ours is broken")
    ]


def test_the_other_parts_go_on(story: CapturedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestContext, "read_ids", breaks)
    monkeypatch.setattr(ASGIRoutes, "template", breaks)
    app = stator.asgi_app(asgi, environ={}, collectors=[], log=story.log)
    asyncio.run(call(app, "GET", "/items/1"))
    assert len(story.lines_with("answered request")) == 1
    assert counts(scrape_asgi(app)) == {("GET", "", "200", ""): 1}


def test_websockets_go_on_too(monkeypatch: pytest.MonkeyPatch, story: CapturedLog) -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    async def send(message: Message) -> None:
        sent.append(message)

    wrapped: Any = stator.asgi_app(app, environ={}, collectors=[], log=story.log)
    monkeypatch.setattr(SharedValue, "inc", breaks)
    asyncio.run(wrapped({"type": "websocket", "path": "/"}, None, send))
    assert sent == [{"type": "websocket.accept"}]
    assert [line["part"] for line in story.lines] == ["metrics"]


@pytest.mark.parametrize("status", ["none", "", "200"])
def test_a_response_that_can_not_be_read_is_the_servers_to_refuse(status: str, story: CapturedLog) -> None:
    def app(_environ: Any, start: Any) -> list[bytes]:
        start(status, [])
        return [b""]

    seen: list[Any] = []
    wrapped: Any = stator.wsgi_app(app, environ={}, collectors=[], log=story.log)
    wrapped({"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "PATH_INFO": "/"}, lambda *args: seen.append(args))
    assert seen[0][0] == status
    assert sum(counts(scrape_wsgi(wrapped)).values()) == 1


class Nameless(type):
    """A class whose module can't be read."""

    def __getattribute__(cls, name: str) -> Any:
        return breaks() if name == "__module__" else super().__getattribute__(name)


def test_an_exception_whose_name_can_not_be_read_passes_through_all_the_same(story: CapturedLog) -> None:
    odd: Any = Nameless("odd", (LookupError,), {})

    def app(_environ: Any, _start: Any) -> list[bytes]:
        raise odd

    async def also(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise odd

    observability = stator.Stator(environ={}, collectors=[], log=story.log)
    with pytest.raises(odd):
        ask_wsgi(observability.wsgi_app(app))
    with pytest.raises(odd):
        asyncio.run(call(observability.asgi_app(also), "GET", "/"))


def test_a_log_that_fails_is_not_the_applications(story: CapturedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RequestMetrics, "begin", breaks)
    monkeypatch.setattr(ChangeLog, "report", breaks)
    app = stator.asgi_app(asgi, environ={}, collectors=[], log=story.log)
    assert asyncio.run(call(app, "GET", "/items/1")).body == b"done"


def test_a_request_without_what_every_server_gives_reaches_the_application() -> None:
    app: Any = stator.wsgi_app(wsgi, environ={}, collectors=[])
    assert copy_context().run(lambda: list(app({}, lambda *_: None))) == [b"done"]
