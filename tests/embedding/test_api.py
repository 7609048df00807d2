"""What the calls that embed Stator take, refuse and leave alone."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import falcon
import falcon.asgi
import falcon.testing
import prometheus_client
import pytest

import stator
from stator.settings.environment import ConfigError
from tests.captured_log import CapturedLog
from tests.web.asgi import Reply, call

Ask = Callable[..., Reply]


class Orders:
    def collect(self, now: float) -> stator.PointsAt:
        return stator.PointsAt("orders", now, points=[stator.Point("open", "Not sent yet", 7)])


class Unnamed(Orders):
    name = None


class Broken:
    def collect(self, now: float) -> stator.PointsAt:
        msg = "the shelf is gone"
        raise LookupError(msg)


def ask_asgi(target: str, method: str = "GET", **options: Any) -> Reply:
    return asyncio.run(call(stator.asgi_app(environ={}, **options), method, target))


def ask_wsgi(target: str, method: str = "GET", **options: Any) -> Reply:
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    environ["wsgi.errors"] = io.StringIO()
    told: list[tuple[str, list[tuple[str, str]]]] = []
    app = stator.wsgi_app(environ={}, **options)
    body = b"".join(app(environ, lambda status, headers, _=None: told.append((status, headers))))  # type: ignore[arg-type]
    ((status, headers),) = told
    return Reply(int(status[:3]), {name.lower(): value for name, value in headers}, body)


@pytest.fixture(params=[ask_asgi, ask_wsgi], ids=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


def test_a_collector_goes_by_its_class_or_by_its_name(ask: Ask) -> None:
    class Named(Orders):
        name = "returns"

    body = ask("/metrics?exclude[]=returns", collectors=[Orders(), Named()]).body
    assert b'stator_collector_success{collector="orders"} 1' in body
    assert b"returns" not in body


def test_without_collectors_it_is_the_runtime(ask: Ask) -> None:
    body = ask("/metrics").body
    assert b"pyrt_info" in body
    assert b"wave" not in body


def test_without_any_there_is_only_what_is_ours(ask: Ask) -> None:
    assert b"pyrt_info" not in ask("/metrics", collectors=[]).body


def test_one_that_fails_takes_nothing_with_it_and_is_told(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    body = ask("/metrics", collectors=[Orders(), Broken()]).body
    assert b"orders_open 7" in body
    assert b'stator_collector_success{collector="broken"} 0' in body
    assert "LookupError: the shelf is gone" in caplog.text
    assert {record.name for record in caplog.records} == {"stator"}


def exits() -> None:
    raise SystemExit(4)


async def exits_later() -> None:
    raise SystemExit(4)


def yields() -> Iterator[None]:
    yield


async def yields_later() -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("check", [exits, exits_later])
def test_a_check_that_exits_fails_and_the_application_runs_on(ask: Ask, check: Callable[[], object]) -> None:
    reply = ask("/monitor", checks={"db": check, "queue": lambda: None})
    assert reply.status == 503
    assert json.loads(reply.body)["checks"] == {"db": "SystemExit: 4", "queue": "ok"}


@pytest.mark.parametrize("check", [yields, yields_later])
def test_a_check_that_yields_and_so_never_runs_does_not_pass(ask: Ask, check: Callable[[], object]) -> None:
    reply = ask("/monitor", checks={"db": check})
    assert reply.status == 503
    assert b"a check must return, not yield" in reply.body


def test_two_event_loops_may_be_answered_at_the_same_time() -> None:
    app = stator.asgi_app(collectors=[Orders()], environ={})
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    waiting = first.create_task(call(app, "GET", "/metrics"))
    first.call_soon(first.stop)
    first.run_forever()  # for one turn, in which it asks
    assert second.run_until_complete(call(app, "GET", "/metrics")).status == 200
    assert first.run_until_complete(waiting).status == 200
    first.close()
    second.close()


def test_a_log_that_is_given_is_used(ask: Ask, story: CapturedLog, caplog: pytest.LogCaptureFixture) -> None:
    ask("/metrics", collectors=[Broken()], log=story.log)
    assert story.line["collector"] == "broken"
    ask("/metrics", collectors=[Broken()], log=logging.getLogger("shop.stator"))
    assert {record.name for record in caplog.records} == {"shop.stator"}


def test_other_paths_and_methods_are_refused(ask: Ask) -> None:
    assert ask("/config").status == 404
    assert ask("/metrics", "POST").status == 405
    head = ask("/monitor", "HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"collectors": ["runtme"]}, ConfigError, "STTR_COLLECTORS='runtme': expected names out of"),
        ({"collectors": "runtime"}, TypeError, r"expected several collectors, as in collectors=\['runtime'\]"),
        ({"collectors": [Orders(), Orders()]}, ValueError, "two collectors are called 'orders'"),
        ({"collectors": [object()]}, TypeError, r"no collector: <object .*> has no method collect\(now\)"),
        ({"collectors": [Orders]}, TypeError, r"is a class; make one of it, as in collectors=\[Orders\(\)\]"),
        ({"collectors": [Unnamed()]}, TypeError, "can't be called None: expected a text in its attribute 'name'"),
        ({"checks": [exits]}, TypeError, r"expected functions by name, as in checks={'db': ping_db}"),
        ({"checks": {1: exits}}, TypeError, "a check can't be called 1: expected a text"),
        ({"checks": {"\udcff": exits}}, TypeError, r"a check can't be called '\\udcff': expected a text"),
        ({"checks": {"db": True}}, TypeError, "check 'db': expected a function, not True"),
        ({"check_timeout": 0}, ValueError, "check_timeout=0: expected seconds, more than 0"),
    ],
)
def test_what_is_wrong_is_told_at_once(ask: Ask, options: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        ask("/metrics", **options)


def test_a_wrong_environment_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="STTR_METRICS_TIMEOUT='soon': expected a duration"):
        stator.asgi_app(environ={"STTR_METRICS_TIMEOUT": "soon"})
    with pytest.raises(ConfigError, match="STTR_CLIENT_BASEURI='consul': expected a URI"):
        stator.registered(8000, environ={"STTR_CLIENT_BASEURI": "consul"})


def test_the_process_is_told_once_where_prometheus_client_tells_it_too(ask: Ask) -> None:
    jobs = prometheus_client.Counter("jobs_done", "Jobs that are done")
    try:
        body = ask("/metrics", collectors=["process", "prometheus_client"]).body.decode()
    finally:
        prometheus_client.REGISTRY.unregister(jobs)
    assert 'stator_collector_success{collector="prometheus_client"} 1' in body
    assert "\njobs_done_total " in body
    assert body.count("\nprocess_cpu_seconds_total ") == body.count("\nprocess_open_fds ") == 1


def test_the_environment_chooses_where_the_call_does_not() -> None:
    app = stator.asgi_app(environ={"STTR_COLLECTORS": "wave"})
    assert b"wave_sine" in asyncio.run(call(app, "GET", "/metrics")).body


@pytest.mark.parametrize("make", [falcon.App, falcon.asgi.App])
def test_routes_of_a_falcon_application_stand_beside_its_own(make: Callable[[], Any]) -> None:
    app = make()
    stator.add_routes(app, prefix="/internal", collectors=[Orders()], checks={"db": lambda: False}, environ={})
    client = falcon.testing.TestClient(app)
    assert "orders_open 7" in client.simulate_get("/internal/metrics").text
    assert client.simulate_get("/internal/monitor").json == {"status": "failing", "checks": {"db": "it gave False"}}
    assert client.simulate_get("/metrics").status_code == 404


@pytest.mark.parametrize("prefix", ["internal", "/internal/", "/"])
def test_a_prefix_that_is_no_path_is_told_as_such(prefix: str) -> None:
    with pytest.raises(ValueError, match=f"prefix='{prefix}': expected a path such as /internal"):
        stator.add_routes(falcon.App(), prefix=prefix, environ={})


@pytest.mark.parametrize("port", [0, 70000, "8000"])
def test_a_service_without_a_port_can_not_be_registered(port: Any) -> None:
    with pytest.raises(ValueError, match=f"port={port!r}: expected the number of the port"):
        stator.registered(port, environ={})


@pytest.mark.parametrize("monitor", ["internal/monitor", "http://localhost:8000/monitor", "/gesund heit", "/prüfung"])
def test_a_path_of_the_monitor_that_is_none_is_told_at_once(monitor: str) -> None:
    with pytest.raises(ValueError, match=f"monitor='{monitor}': expected a path such as /internal/monitor"):
        stator.registered(8000, monitor=monitor, environ={})


def test_what_is_no_falcon_application_gets_no_routes() -> None:
    with pytest.raises(TypeError, match=r"expected a falcon.App or a falcon.asgi.App, not 'shop'"):
        stator.add_routes("shop", environ={})  # type: ignore[arg-type]


def test_an_unknown_name_is_an_attribute_error_as_anywhere() -> None:
    with pytest.raises(AttributeError, match="module 'stator' has no attribute 'nothing'"):
        _ = stator.nothing  # type: ignore[attr-defined]


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    for name in stator.__all__:
        assert hasattr(stator, name)
    assert all(getattr(stator, name).__doc__ for name in ("asgi_app", "wsgi_app", "add_routes", "registered"))


def loaded(code: str) -> set[str]:
    """Modules that are imported once some code has run."""
    code += "\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_it_imports_nothing_that_a_collector_does_not_need() -> None:
    slow = {"falcon", "gunicorn", "psutil", "urllib3", "environs", "structlog", "asyncio", "stator.config"}
    assert loaded("import stator; stator.Point").isdisjoint(slow)


def test_embedding_leaves_the_applications_logging_signals_and_streams_alone() -> None:
    code = """
import logging, signal, sys, threading
before = logging.getLogger().handlers[:], logging.getLogger().level, sys.stdout, signal.getsignal(signal.SIGTERM)
import stator
app = stator.wsgi_app(checks={"db": lambda: None}, environ={})
assert before == (logging.getLogger().handlers, logging.getLogger().level, sys.stdout, signal.getsignal(signal.SIGTERM))
assert threading.active_count() == 1
"""
    assert "gunicorn" not in loaded(code)
