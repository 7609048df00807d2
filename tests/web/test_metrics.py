"""The resource /metrics, over the wire: formats, encodings, filters, and collectors that hang."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.program import Program, eventually
from tests.server.conftest import Starts

SOON = 3.0
TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
MODULES = {
    "odd": """
import pathlib, time
from stator.points import Point, PointsAt

class Hangs:
    calls = 0
    def collect(self, now):
        Hangs.calls += 1
        pathlib.Path("called").touch()
        while pathlib.Path("hang").exists():
            time.sleep(0.005)
        return PointsAt("hangs", now, points=[Point("calls", "", Hangs.calls)])

class Clock:
    def collect(self, now):
        return PointsAt("clock", now, points=[Point("seen", "", time.monotonic(), unit="seconds")])

class Big:
    def __init__(self):
        self.labels = [(("key", str(number)), ("more", "x" * 20), ("most", "y" * 20)) for number in range(100_000)]
    def collect(self, now):
        return PointsAt("big", now, points=[Point("thing", "", now + 0.1, labels=each) for each in self.labels])

class Bad:
    def collect(self, now):
        return PointsAt("bad", now, points=[Point("thing", "", 1), Point("thing", "", 2)])
"""
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A program for the tests that only send requests."""
    folder = tmp_path_factory.mktemp("stator")
    (folder / "odd.py").write_text(MODULES["odd"])
    with Program({"STTR_COLLECTORS": "wave,odd:Clock,odd:Bad"}, folder) as running:
        running.wait_for("ready")
        yield running
        assert running.stop() == 0
        assert running.errors == ""


@pytest.fixture
def hanging(starts: Starts) -> Program:
    """A program with a collector that hangs as long as there is a file."""
    program = starts({"STTR_COLLECTORS": "odd:Hangs,odd:Clock", "STTR_METRICS_TIMEOUT": "2s"}, modules=MODULES)
    (program.stdout.parent / "hang").touch()
    program.wait_for("ready")
    return program


def release(program: Program) -> None:
    (program.stdout.parent / "hang").unlink()


def success(body: bytes) -> dict[str, int]:
    lines = [line for line in body.decode().splitlines() if line.startswith("stator_collector_success")]
    return {line.split('"')[1]: int(line.split()[1]) for line in lines}


def value(body: bytes, series: str) -> float:
    (line,) = [line for line in body.decode().splitlines() if line.startswith(f"{series} ")]
    return float(line.split()[1])


# Formats and encodings


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("image/png", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        (
            "text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(program: Program, accept: str, content_type: str) -> None:
    answer = program.get("/metrics", {"Accept": accept})
    assert (answer.status, answer.headers["content-type"]) == (200, content_type)
    assert answer.body.endswith(b"# EOF\n") == content_type.startswith("application/openmetrics-text")
    assert answer.headers["vary"] == "Accept, Accept-Encoding"


def test_gzip_has_the_same_series(program: Program) -> None:
    plain = program.get("/metrics?exclude[]=odd:Clock")
    packed = program.get("/metrics?exclude[]=odd:Clock", {"Accept-Encoding": "br, gzip"})
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    assert packed.headers["vary"] == "Accept, Accept-Encoding"
    assert len(packed.body) < len(plain.body)

    def series(body: bytes) -> list[str]:
        return [line.split()[0] for line in body.decode().splitlines() if line[:1] not in ("", "#")]

    assert series(gzip.decompress(packed.body)) == series(plain.body)


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "br", "*;q=0", "gzip;q=nonsense"])
def test_nothing_is_compressed_for_clients_that_do_not_take_it(program: Program, accepted: str) -> None:
    answer = program.get("/metrics", {"Accept-Encoding": accepted})
    assert answer.headers.get("content-encoding") is None
    assert b"wave_sine" in answer.body


@pytest.mark.parametrize("accepted", ["identity", "gzip"])
def test_head_has_the_headers_of_get(program: Program, accepted: str) -> None:
    get, head = (
        program.request(method, "/metrics", headers={"Accept-Encoding": accepted}) for method in ("GET", "HEAD")
    )
    assert (head.status, head.body, head.headers.keys()) == (200, b"", get.headers.keys())
    varies = {"content-length", "date", "x-request-id"}
    assert {name: text for name, text in head.headers.items() if name.lower() not in varies} == (
        {name: text for name, text in get.headers.items() if name.lower() not in varies}
    )


# Filters


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("collect[]=wave", {"wave"}),
        ("collect%5B%5D=wave&collect[]=odd:Clock", {"wave", "odd:Clock"}),
        ("exclude[]=wave", {"odd:Clock", "odd:Bad"}),
        ("exclude[]=wave&exclude[]=odd:Bad", {"odd:Clock"}),
        ("exclude[]=wave&exclude[]=odd:Bad&exclude[]=odd:Clock", set()),
        ("other=wave", {"wave", "odd:Clock", "odd:Bad"}),
    ],
)
def test_a_scrape_can_name_its_collectors(program: Program, query: str, names: set[str]) -> None:
    answer = program.get(f"/metrics?{query}")
    assert (answer.status, {*success(answer.body)}) == (200, names)
    assert (b"wave_sine" in answer.body) == ("wave" in names)


@pytest.mark.parametrize("query", ["collect[]=sun", "exclude[]=sun", "collect[]=wave&collect[]=sun"])
def test_a_collector_that_does_not_exist_is_a_bad_request_that_names_those_that_do(
    program: Program, query: str
) -> None:
    answer = program.get(f"/metrics?{query}")
    assert answer.status == 400
    assert json.loads(answer.body) == {"error": "no collector sun; there are wave, odd:Clock, odd:Bad"}


def test_both_filters_at_once_are_a_bad_request(program: Program) -> None:
    answer = program.get("/metrics?collect[]=wave&exclude[]=odd:Bad")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "give collect[] or exclude[], not both"})


# Bad collectors


def test_a_bad_point_fails_its_collector_alone(program: Program) -> None:
    body = program.get("/metrics").body
    assert success(body) == {"wave": 1, "odd:Clock": 1, "odd:Bad": 0}
    assert b"bad_thing" not in body
    assert "bad_thing" in program.wait_for("failed to collect", collector="odd:Bad")["reason"]


def test_a_scrape_ends_in_the_time_that_the_scraper_has(hanging: Program) -> None:
    start = time.monotonic()
    body = hanging.get("/metrics", {TIMEOUT: "1.0"}).body
    assert 0.4 < time.monotonic() - start < 0.9
    assert success(body) == {"odd:Hangs": 0, "odd:Clock": 1}
    assert hanging.wait_for("failed to collect", collector="odd:Hangs")["reason"] == "it did not answer in time"


@pytest.mark.parametrize("header", ["", "soon", "nan", "inf", "-5", "0", "1e999"])
def test_a_time_that_makes_no_sense_is_ignored(starts: Starts, header: str) -> None:
    program = starts({"STTR_COLLECTORS": "odd:Hangs,odd:Clock", "STTR_METRICS_TIMEOUT": "300ms"}, modules=MODULES)
    (program.stdout.parent / "hang").touch()
    program.wait_for("ready")
    start = time.monotonic()
    assert success(program.get("/metrics", {TIMEOUT: header}).body) == {"odd:Hangs": 0, "odd:Clock": 1}
    assert 0.25 < time.monotonic() - start < SOON


def test_while_a_collector_hangs_others_are_answered_and_it_recovers_by_itself(hanging: Program) -> None:
    (worker,) = hanging.workers
    hanging.get("/metrics")
    threads = worker.num_threads()
    start = time.monotonic()
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: hanging.get("/metrics").body, range(40)))
        assert {answer.status for answer in clients.map(lambda _: hanging.get("/monitor"), range(40))} == {200}
    assert time.monotonic() - start < SOON
    assert all(success(body) == {"odd:Hangs": 0, "odd:Clock": 1} for body in answers)
    assert eventually(lambda: worker.num_threads() <= threads + 3)
    release(hanging)
    eventually(lambda: success(hanging.get("/metrics").body)["odd:Hangs"])
    assert value(hanging.get("/metrics").body, "hangs_calls") == 3
    assert hanging.stop() == 0
    assert hanging.errors == ""


def test_a_client_that_leaves_takes_the_answer_from_nobody(hanging: Program) -> None:
    with hanging.dial() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: stator\r\n\r\n")
        hanging.wait_for("received request", path="/metrics")
    with ThreadPoolExecutor(4) as clients:
        bodies = list(clients.map(lambda _: hanging.get("/metrics").body, range(4)))
    assert all(success(body) == {"odd:Hangs": 0, "odd:Clock": 1} for body in bodies)


def test_it_ends_at_once_when_scrapes_are_answered_though_a_collector_hangs(hanging: Program) -> None:
    with ThreadPoolExecutor(1) as clients:
        scrape = clients.submit(hanging.get, "/metrics", {TIMEOUT: "1.5"})
        hanging.wait_for("received request", path="/metrics")
        start = time.monotonic()
        assert hanging.stop() == 0
        assert time.monotonic() - start < SOON
        assert success(scrape.result().body) == {"odd:Hangs": 0, "odd:Clock": 1}
    assert hanging.processes() == []
    assert hanging.errors == ""


# Sharing


def test_no_answer_has_a_value_from_before_it_was_asked_for(program: Program) -> None:
    def client(number: int) -> None:
        connection = program.connect()
        for _ in range(50):
            asked = time.monotonic()
            connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"} if number % 2 else {})
            body = connection.getresponse().read()
            assert value(gzip.decompress(body) if number % 2 else body, "clock_seen_seconds") >= asked
        connection.close()

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(client, range(8)))


def test_scrapes_that_come_together_share_what_is_collected(hanging: Program) -> None:
    connections = [hanging.connect() for _ in range(8)]
    for nth, connection in enumerate(connections):
        connection.request("GET", "/metrics")
        if nth == 0:
            eventually((hanging.stdout.parent / "called").exists)
    eventually(lambda: len(hanging.lines("received request", path="/metrics")) == 8)
    release(hanging)
    bodies = [connection.getresponse().read() for connection in connections]
    # Whoever came while the first call was under way shares the next one.
    assert {value(body, "hangs_calls") for body in bodies} == {1, 2}
    for connection in connections:
        connection.close()


def test_a_big_answer_delays_nobody_else(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "odd:Big"}, modules=MODULES)
    program.wait_for("ready")
    over, waits = threading.Event(), [0.0]

    def ask_in_between() -> None:
        while not over.is_set():
            start = time.monotonic()
            assert program.get("/monitor").status == 200
            waits.append(time.monotonic() - start)

    with ThreadPoolExecutor(1) as clients:
        between = clients.submit(ask_in_between)
        for _ in range(5):
            start = time.monotonic()
            packed = program.get("/metrics", {"Accept-Encoding": "gzip"}).body
            print(f"100,000 points in {time.monotonic() - start:.2f} s")  # noqa: T201
            assert gzip.decompress(packed).count(b"\nbig_thing{") == 100_000
        over.set()
        between.result(SOON)
    print(f"longest wait of {len(waits)} for /monitor: {max(waits):.3f} s")  # noqa: T201
    assert max(waits) < SOON


def test_a_client_that_does_not_read_its_answer_delays_nobody_else(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "odd:Big"}, modules=MODULES)
    with program.dial() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: stator\r\n\r\n")
        program.wait_for("sending response")
        assert program.get("/monitor").status == 200
        assert success(program.get("/metrics").body) == {"odd:Big": 1}
        with suppress(OSError):
            connection.shutdown(2)
    assert program.stop() == 0
