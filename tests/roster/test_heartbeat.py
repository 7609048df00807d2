"""Health is asked of ourselves and reported, and a report never says better than the answer was."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stator.roster.heartbeat import Health, HealthProbe, Heartbeat
from stator.roster.registrar import RegistrarError
from stator.roster.service import Service
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.fakes import OK, Agent, MisbehavingServer, drips, hangs, says
from tests.program import eventually

GOOD, BAD = Health(passing=True, output="fine"), Health(passing=False, output="oops")


def service(uri: str = "http://127.0.0.1:8087") -> Service:
    return Service("stator-1", "stator", (), (), "10.0.0.1", 8087, "http://10.0.0.1:8087/monitor", f"{uri}/monitor")


class Board:
    """Collects reports of a service whose health can be set.

    Attributes:
        health: How the service is.
        error: What a report fails with.
        tries: How often it was reported, in vain or not.
        reports: All that were accepted.
    """

    def __init__(self) -> None:
        self.health = GOOD
        self.error: Exception | None = None
        self.tries = 0
        self.reports: list[Health] = []
        self.open = threading.Event()
        self.open.set()

    def check(self, _service: Service) -> Health:
        return self.health

    def report(self, _service: Service, health: Health) -> None:
        self.tries += 1
        self.open.wait()
        if self.error:
            raise self.error
        self.reports.append(health)


StartHeartbeat = Callable[..., Heartbeat]


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def start_heartbeat(board: Board, captured: CapturedLog) -> Iterator[StartHeartbeat]:
    heartbeats: list[Heartbeat] = []

    def start(interval: float = 0.01) -> Heartbeat:
        heartbeats.append(Heartbeat(board.check, interval, captured.log))
        heartbeats[-1].report_now(service(), board.report)
        return heartbeats[-1]

    yield start
    board.open.set()
    for heartbeat in heartbeats:
        heartbeat.stop()


def test_reports_at_once_and_again_and_again(board: Board, start_heartbeat: StartHeartbeat) -> None:
    start_heartbeat()
    eventually(lambda: len(board.reports) > 5)
    assert set(board.reports) == {GOOD}


def test_reports_at_once_when_the_service_is_registered_again(board: Board, start_heartbeat: StartHeartbeat) -> None:
    heartbeat = start_heartbeat(interval=3600)
    eventually(lambda: board.reports == [GOOD])
    board.health = BAD
    heartbeat.report_now(service(), board.report)
    eventually(lambda: board.reports == [GOOD, BAD])


def test_logs_each_change_once(board: Board, start_heartbeat: StartHeartbeat, captured: CapturedLog) -> None:
    heartbeat = start_heartbeat()
    eventually(lambda: board.reports.count(GOOD) > 2)
    board.health = BAD
    eventually(lambda: board.reports.count(BAD) > 2)
    board.health = GOOD
    eventually(lambda: board.reports[-1] == GOOD)
    heartbeat.stop()
    lines = captured.lines_with("reported health")
    assert [(line["level"], line["passing"], line["output"]) for line in lines] == [
        ("info", True, "fine"),
        ("warning", False, "oops"),
        ("info", True, "fine"),
    ]
    assert {line["service"] for line in lines} == {"stator-1"}
    assert len({line["worker_id"] for line in captured.lines}) == 1


@pytest.mark.parametrize("error", [RegistrarError("connection refused"), RuntimeError("unforeseen")])
def test_continues_after_a_failure_and_logs_it_once(
    board: Board, start_heartbeat: StartHeartbeat, captured: CapturedLog, error: Exception
) -> None:
    board.error = error
    start_heartbeat()
    (line,) = eventually(lambda: captured.lines_with("failed to report health, trying again"))
    assert str(error) in str(line)
    board.error = None
    eventually(lambda: board.reports)
    eventually(lambda: captured.lines_with("reported health"))
    assert len(captured.lines_with("failed to report health, trying again")) == 1


def test_nothing_is_reported_after_it_has_stopped(
    board: Board, start_heartbeat: StartHeartbeat, captured: CapturedLog
) -> None:
    heartbeat = start_heartbeat()
    eventually(lambda: board.reports)
    heartbeat.stop()
    seen = len(board.reports)
    heartbeat.report_now(service(), board.report)
    heartbeat.stop()
    assert len(board.reports) == seen
    assert captured.lines[-1]["msg"] == "worker stopped"


def test_a_report_that_hangs_does_not_delay_the_stop(
    board: Board, start_heartbeat: StartHeartbeat, captured: CapturedLog
) -> None:
    board.open.clear()
    heartbeat = start_heartbeat()
    eventually(lambda: board.tries)
    heartbeat.stop()
    assert captured.lines_with("worker stopped") == []
    board.open.set()
    eventually(lambda: captured.lines_with("worker stopped"))


def probe(uri: str, captured: CapturedLog) -> Health:
    return HealthProbe(Duration.parse("200ms"), ("X-Probe", "hunter2"), captured.log)(service(uri))


def test_a_good_answer_passes(captured: CapturedLog) -> None:
    with Agent(body=b'{"status":"ok"}') as us:
        health = probe(us.uri, captured)
        assert health == Health(True, f'GET {us.uri}/monitor was answered with status 200: {{"status":"ok"}}')
        (asked,) = us.requests
    assert (asked.path, asked.headers["X-Probe"], asked.headers["Connection"]) == ("/monitor", "hunter2", "close")
    assert "hunter2" not in captured.text
    assert {line["level"] for line in captured.lines} == {"debug"}


@pytest.mark.parametrize("status", [301, 404, 429, 500, 503])
def test_an_error_status_does_not_pass(captured: CapturedLog, status: int) -> None:
    with Agent(status, b"no") as us:
        health = probe(us.uri, captured)
    assert not health.passing
    assert f"status {status}: no" in health.output


@pytest.mark.parametrize(
    "act", [hangs, drips(OK), drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n"), says(b""), says(b"SSH-2.0\r\n")]
)
def test_no_complete_answer_in_time_does_not_pass(captured: CapturedLog, act: Callable[..., None]) -> None:
    with MisbehavingServer(act) as us:
        assert not probe(us.uri, captured).passing


def test_no_answer_does_not_pass(captured: CapturedLog) -> None:
    assert not probe("http://127.0.0.1:1", captured).passing
