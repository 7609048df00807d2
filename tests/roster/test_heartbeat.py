"""Health is asked of ourselves and reported, and a report never says better than the answer was."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stator.roster.heartbeat import Health, Heartbeat, Monitor
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
    """Where reports are put up, and a service whose health can be set.

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

    def ask(self, _service: Service) -> Health:
        return self.health

    def report(self, _service: Service, health: Health) -> None:
        self.tries += 1
        self.open.wait()
        if self.error:
            raise self.error
        self.reports.append(health)


Beats = Callable[..., Heartbeat]


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as made:
        yield made


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def beats(board: Board, story: CapturedLog) -> Iterator[Beats]:
    made: list[Heartbeat] = []

    def start(interval: float = 0.01) -> Heartbeat:
        made.append(Heartbeat(board.ask, interval, story.log))
        made[-1].beat(service(), board.report)
        return made[-1]

    yield start
    board.open.set()
    for heartbeat in made:
        heartbeat.end()


def test_reports_at_once_and_again_and_again(board: Board, beats: Beats) -> None:
    beats()
    eventually(lambda: len(board.reports) > 5)
    assert set(board.reports) == {GOOD}


def test_reports_at_once_what_was_registered_anew(board: Board, beats: Beats) -> None:
    heartbeat = beats(interval=3600)
    eventually(lambda: board.reports == [GOOD])
    board.health = BAD
    heartbeat.beat(service(), board.report)
    eventually(lambda: board.reports == [GOOD, BAD])


def test_tells_each_change_once(board: Board, beats: Beats, story: CapturedLog) -> None:
    heartbeat = beats()
    eventually(lambda: board.reports.count(GOOD) > 2)
    board.health = BAD
    eventually(lambda: board.reports.count(BAD) > 2)
    board.health = GOOD
    eventually(lambda: board.reports[-1] == GOOD)
    heartbeat.end()
    told = story.lines_with("reported health")
    assert [(line["level"], line["passing"], line["output"]) for line in told] == [
        ("info", True, "fine"),
        ("warning", False, "oops"),
        ("info", True, "fine"),
    ]
    assert {line["service"] for line in told} == {"stator-1"}
    assert len({line["worker_id"] for line in story.lines}) == 1


@pytest.mark.parametrize("error", [RegistrarError("connection refused"), RuntimeError("unforeseen")])
def test_goes_on_after_a_failure_and_tells_it_once(
    board: Board, beats: Beats, story: CapturedLog, error: Exception
) -> None:
    board.error = error
    beats()
    (line,) = eventually(lambda: story.lines_with("failed to report health, trying again"))
    assert str(error) in str(line)
    board.error = None
    eventually(lambda: board.reports)
    eventually(lambda: story.lines_with("reported health"))
    assert len(story.lines_with("failed to report health, trying again")) == 1


def test_nothing_is_reported_after_the_end(board: Board, beats: Beats, story: CapturedLog) -> None:
    heartbeat = beats()
    eventually(lambda: board.reports)
    heartbeat.end()
    seen = len(board.reports)
    heartbeat.beat(service(), board.report)
    heartbeat.end()
    assert len(board.reports) == seen
    assert story.lines[-1]["msg"] == "worker stopped"


def test_a_report_that_hangs_does_not_hold_up_the_end(board: Board, beats: Beats, story: CapturedLog) -> None:
    board.open.clear()
    heartbeat = beats()
    eventually(lambda: board.tries)
    heartbeat.end()
    assert story.lines_with("worker stopped") == []
    board.open.set()
    eventually(lambda: story.lines_with("worker stopped"))


def monitored(uri: str, story: CapturedLog) -> Health:
    return Monitor(Duration.parse("200ms"), ("X-Probe", "hunter2"), story.log)(service(uri))


def test_a_good_answer_passes(story: CapturedLog) -> None:
    with Agent(body=b'{"status":"ok"}') as us:
        health = monitored(us.uri, story)
        assert health == Health(True, f'GET {us.uri}/monitor was answered with status 200: {{"status":"ok"}}')
        (asked,) = us.requests
    assert (asked.path, asked.headers["X-Probe"], asked.headers["Connection"]) == ("/monitor", "hunter2", "close")
    assert "hunter2" not in story.text
    assert {line["level"] for line in story.lines} == {"debug"}


@pytest.mark.parametrize("status", [301, 404, 429, 500, 503])
def test_a_bad_answer_does_not(story: CapturedLog, status: int) -> None:
    with Agent(status, b"no") as us:
        health = monitored(us.uri, story)
    assert not health.passing
    assert f"status {status}: no" in health.output


@pytest.mark.parametrize(
    "act", [hangs, drips(OK), drips(b"x", start=OK + b"Content-Length: 999\r\n\r\n"), says(b""), says(b"SSH-2.0\r\n")]
)
def test_no_whole_answer_in_time_does_not(story: CapturedLog, act: Callable[..., None]) -> None:
    with MisbehavingServer(act) as us:
        assert not monitored(us.uri, story).passing


def test_nobody_there_does_not(story: CapturedLog) -> None:
    assert not monitored("http://127.0.0.1:1", story).passing
