"""What the calls that embed Stator take, refuse and leave alone."""

import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import falcon
import falcon.asgi
import falcon.testing
import prometheus_client
import psutil
import pytest

import stator
from tests.captured_log import CapturedLog
from tests.program import eventually
from tests.web.asgi import Reply, call

Ask = Callable[..., Reply]


class Orders:
    def collect(self, now: float) -> stator.PointsAt:
        return stator.PointsAt("orders", now, points=[stator.Point("open", "Not sent yet", 7)])


class Unnamed(Orders):
    name = None


class Wave(Orders):
    pass


class Awaited:
    async def collect(self, now: float) -> stator.PointsAt:
        return Orders().collect(now)


class Broken:
    def collect(self, now: float) -> stator.PointsAt:
        msg = "the shelf is gone"
        raise LookupError(msg)


def ask_asgi(target: str, method: str = "GET", **options: Any) -> Reply:
    return asyncio.run(call(stator.asgi_app(environ={}, **options), method, target))


def ask_wsgi(target: str, method: str = "GET", **options: Any) -> Reply:
    return ask_app(stator.wsgi_app(environ={}, **options), target, method)


def ask_app(app: Any, target: str, method: str = "GET") -> Reply:
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    setup_testing_defaults(environ)
    environ["wsgi.errors"] = io.StringIO()
    heads: list[tuple[str, list[tuple[str, str]]]] = []
    body = b"".join(app(environ, lambda status, headers, _=None: heads.append((status, headers))))
    ((status, headers),) = heads
    return Reply(int(status[:3]), {name.lower(): value for name, value in headers}, body)


@pytest.fixture(params=[ask_asgi, ask_wsgi], ids=["asgi", "wsgi"])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


def test_applications_that_are_dropped_leave_no_threads_and_no_open_files(ask: Ask) -> None:
    built_in = ("runtime", "process", "diskusage", "host", "wave")
    files, threads = psutil.Process().num_fds(), threading.active_count()
    for _ in range(20):
        assert ask("/metrics", collectors=[*built_in, Orders()]).status == 200
        assert ask("/monitor", checks={"db": lambda: None}).status == 200
    gc.collect()
    eventually(lambda: threading.active_count() <= threads)
    assert psutil.Process().num_fds() <= files


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


def test_with_an_empty_list_there_are_only_stators_own_metrics(ask: Ask) -> None:
    assert b"pyrt_info" not in ask("/metrics", collectors=[]).body


def test_a_collector_that_fails_takes_nothing_with_it_and_is_logged(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
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
    assert b"use return instead of yield" in reply.body


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
    ("options", "problem"),
    [
        ({"service": 7}, "service=7: expected a text"),
        ({"service": ""}, "service='': expected a name"),
        ({"version": "\udcff"}, r"version='\udcff': expected a text"),
        ({"tags": "blue"}, "tags='blue': expected a list of texts, as in tags=['blue']"),
        ({"meta": ["team"]}, "meta=['team']: expected texts by name, as in meta={'team': 'payments'}"),
        ({"consul": 8500}, "consul: expected a URI such as http://localhost:8500"),
        ({"consul": "localhost:8500"}, "consul='localhost:8500': expected a URI such as http://localhost:8500"),
        ({"collectors": ["runtme"]}, "collectors=['runtme']: expected names out of runtime, diskusage"),
        (
            {"collectors": "runtime"},
            "collectors='runtime': expected a list of names and collectors, as in collectors=['runtime', Orders()]",
        ),
        ({"collectors": [Orders(), Orders()]}, ": expected another name in its attribute 'name', as there are two of"),
        ({"collectors": ["wave", Wave()]}, "collectors: expected different names, but two are called 'wave'"),
        ({"collectors": [object()]}, ": expected a method collect(now), not async, or a registry of prometheus_client"),
        ({"collectors": [prometheus_client.Counter("orders", "Sent", registry=None)]}, ": expected a method collect"),
        ({"collectors": [Awaited()]}, ": expected a method collect(now), not async"),
        ({"collectors": [Orders]}, ": expected an instance, as in collectors=[Orders()]"),
        ({"collectors": [Unnamed()]}, ": expected a text in its attribute 'name', not None"),
        ({"checks": [exits]}, ": expected functions by name, as in checks={'db': ping_db}"),
        ({"checks": {1: exits}}, ": expected functions by name, as in checks={'db': ping_db}"),
        ({"checks": {"\udcff": exits}}, ": expected functions by name, as in checks={'db': ping_db}"),
        ({"checks": {"db": True}}, "checks={'db': True}: expected functions by name, as in checks={'db': ping_db}"),
        ({"check_timeout": 0}, "check_timeout=0: expected seconds, more than 0"),
        ({"log": "stator.log"}, "log='stator.log': expected a logging.Logger"),
        ({"checsk": {"db": exits}}, "checsk: expected one of the keywords service, version, tags,"),
    ],
)
def test_a_wrong_value_is_an_error_at_once(ask: Ask, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(stator.ConfigError) as caught:
        ask("/metrics", **options)
    (line,) = caught.value.problems
    assert problem in line


def test_an_error_lists_all_that_is_wrong_as_the_program_does() -> None:
    with pytest.raises(stator.ConfigError) as caught:
        stator.Stator(
            service=7,  # type: ignore[arg-type]
            consul="consul",
            collectors=["runtme", Orders],  # type: ignore[list-item]
            environ={"STTR_METRICS_TIMEOUT": "soon", "STTR_CLIENT_BASEURI": "ignored"},
        )
    assert [line.partition(": expected")[0] for line in str(caught.value).splitlines()] == [
        "service=7",
        f"collectors=[{Orders!r}]",
        "STTR_METRICS_TIMEOUT='soon'",
        "consul='consul'",
        "collectors=['runtme']",
    ]


def test_an_error_shows_no_password() -> None:
    with pytest.raises(stator.ConfigError) as caught:
        stator.Stator(consul="http://shop:geheim@consul:8500", environ=[("STTR_CLIENT_PASS", "geheim")])  # type: ignore[arg-type]
    assert [line.partition("=")[0].partition(":")[0] for line in caught.value.problems] == ["environ", "consul"]
    assert "geheim" not in str(caught.value)


def test_a_wrong_environment_is_an_error_at_once() -> None:
    with pytest.raises(stator.ConfigError, match="STTR_METRICS_TIMEOUT='soon': expected a duration"):
        stator.asgi_app(environ={"STTR_METRICS_TIMEOUT": "soon"})
    with pytest.raises(stator.ConfigError, match="STTR_CLIENT_BASEURI='consul': expected a URI"):
        stator.registered(8000, environ={"STTR_CLIENT_BASEURI": "consul"})


def test_the_tls_of_the_program_is_not_that_of_an_application() -> None:
    stator.asgi_app(environ={"STTR_SERVER_CERTFILE": "/no/such", "STTR_SERVER_TLSMINVERSION": "1.1"})


def test_a_collector_that_can_not_be_built_is_an_error_of_the_application_that_needs_it(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "class Broken:\n    def __init__(self): raise LookupError('no shelf')\n    def collect(self, now): ...\n"
    )
    observability = stator.Stator(collectors=["broken"], environ={"STTR_PLUGINS_PATH": str(tmp_path)})
    with pytest.raises(stator.StartError, match="broken can't be made: LookupError: no shelf"):
        observability.asgi_app()


def test_a_variable_that_nothing_reads_is_logged_with_the_nearest_name(ask: Ask, story: CapturedLog) -> None:
    stator.asgi_app(environ={"STTR_COLECTORS": "x", "STTR_SERVER_PORT": "8000", "SHOP_NAME": "x"}, log=story.log)
    assert (story.line["level"], story.line["msg"]) == (
        "warning",
        "STTR_COLECTORS is not a setting and is not read; the nearest that is: STTR_COLLECTORS",
    )
    stator.registered(8000, environ={"STTR_CLIENT_BASEURL": "x", "STTR_ROSTER_REGISTRAR": "none"}, log=story.log)
    assert story.lines[1]["msg"].startswith("STTR_CLIENT_BASEURL is not a setting")


def test_a_setting_of_a_plugin_that_the_call_leaves_out_is_not_logged(story: CapturedLog) -> None:
    environ = {"STTR_COLLECTORS": "runtime,queue", "STTR_QUEUE_FOLDER": "/", "STTR_ROSTER_REGISTRAR": "none"}
    stator.registered(8000, environ=environ, log=story.log)
    assert story.lines == []


def test_keywords_win_over_variables() -> None:
    environ = {"STTR_COLLECTORS": "nothing", "STTR_CLIENT_BASEURI": "wrong", "STTR_ROSTER_SERVICE_NAME": ""}
    observability = stator.Stator(service="shop", consul="", collectors=["wave"], environ=environ)
    body = asyncio.run(call(observability.asgi_app(), "GET", "/metrics")).body
    assert b"wave_sine" in body
    assert b"pyrt" not in body


def test_applications_of_one_stator_ask_a_collector_once_at_a_time() -> None:
    class Slow:
        asked = most = 0

        def collect(self, now: float) -> stator.PointsAt:
            self.asked += 1
            self.most = max(self.most, self.asked)
            time.sleep(0.2)
            self.asked -= 1
            return stator.PointsAt("slow", now)

    slow = Slow()
    observability = stator.Stator(collectors=[slow], environ={})
    threads = [threading.Thread(target=ask_app, args=(observability.wsgi_app(), "/metrics")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.most == 1


def test_a_registry_of_prometheus_client_is_a_collector(ask: Ask) -> None:
    first, second = prometheus_client.CollectorRegistry(), prometheus_client.CollectorRegistry()
    prometheus_client.Counter("jobs_done", "Jobs that are done", registry=first).inc(3)
    prometheus_client.Gauge("jobs_waiting", "Jobs that wait", registry=second).set(4)
    body = ask("/metrics", collectors=[first, Orders(), second]).body
    assert b"\njobs_done_total 3" in body
    assert b"\njobs_waiting 4" in body
    for name in (b"registry", b"orders", b"registry2"):
        assert b'stator_collector_success{collector="%s"} 1' % name in body


def test_the_librarys_own_registry_repeats_nothing_of_the_collector_process(ask: Ask) -> None:
    body = ask("/metrics", collectors=["process", prometheus_client.REGISTRY]).body
    assert b'stator_collector_success{collector="registry"} 1' in body
    assert body.count(b"\nprocess_cpu_seconds_total ") == 1


def test_the_process_is_exposed_once_where_prometheus_client_exposes_it_too(ask: Ask) -> None:
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
    assert client.simulate_get("/internal/monitor").json == {
        "status": "failing",
        "checks": {"db": "the check returned False"},
    }
    assert client.simulate_get("/metrics").status_code == 404


@pytest.mark.parametrize("prefix", ["internal", "/internal/", "/"])
def test_a_prefix_that_is_no_path_is_an_error(prefix: str) -> None:
    with pytest.raises(stator.ConfigError, match=f"prefix='{prefix}': expected a path such as /internal"):
        stator.add_routes(falcon.App(), prefix=prefix, environ={})


@pytest.mark.parametrize("monitor", ["internal/monitor", "http://localhost:8000/monitor", "/gesund heit", "/prüfung"])
@pytest.mark.parametrize("port", [0, 70000, "8000"])
def test_a_port_or_a_path_of_the_monitor_that_is_none_is_an_error_at_once(port: Any, monitor: str) -> None:
    with pytest.raises(stator.ConfigError) as caught:
        stator.registered(port, monitor=monitor, environ={})
    assert caught.value.problems == [
        f"port={port!r}: expected the number of the port on which the service listens",
        f"monitor={monitor!r}: expected a path such as /internal/monitor, percent-encoded where it's not ASCII",
    ]


def test_what_is_no_falcon_application_gets_no_routes() -> None:
    with pytest.raises(TypeError, match=r"expected a falcon.App or a falcon.asgi.App, not 'shop'"):
        stator.add_routes("shop", environ={})  # type: ignore[arg-type]


def modules(code: str) -> set[str]:
    """Modules that are imported when some code has run."""
    code += "\nimport sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_embedding_leaves_the_applications_logging_signals_and_streams_alone() -> None:
    code = """
import logging, signal, sys, threading
before = logging.getLogger().handlers[:], logging.getLogger().level, sys.stdout, signal.getsignal(signal.SIGTERM)
import stator
app = stator.wsgi_app(checks={"db": lambda: None}, environ={})
assert before == (logging.getLogger().handlers, logging.getLogger().level, sys.stdout, signal.getsignal(signal.SIGTERM))
assert threading.active_count() == 1
"""
    assert "gunicorn" not in modules(code)


@pytest.mark.parametrize("port", [True, 8000.0, 0, 65536, "8000"])
def test_a_port_is_an_integer(port: Any) -> None:
    with pytest.raises(stator.ConfigError, match=f"port={port!r}: expected the number of the port"):
        stator.registered(port, environ={})


def test_an_unknown_keyword_is_refused_whatever_its_value() -> None:
    unknown: Any = {"chekcs": None}
    with pytest.raises(stator.ConfigError, match="chekcs: expected one of the keywords service"):
        stator.Stator(environ={}, **unknown)
