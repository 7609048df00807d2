"""A registration from `start` to `stop`, with the file registrar."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import stator
from stator.embedding.membership import Membership
from stator.embedding.registration import READY_LATE, Registration
from stator.roster.roster import Roster, RosterConfig
from tests.captured_log import CapturedLog
from tests.fakes import Agent
from tests.program import eventually


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Answers /monitor."""
    with Agent() as running:
        yield running


class Service:
    """A service, and the targets file in which it is registered."""

    def __init__(self, agent: Agent, file: Path, story: CapturedLog) -> None:
        self.port = urlsplit(agent.uri).port or 0
        self._file, self._story = file, story

    def registered(self, **options: Any) -> Registration:
        environ = {"STTR_ROSTER_REGISTRAR": "file", "STTR_FILE_PATH": str(self._file)}
        return stator.registered(self.port, host="127.0.0.1", environ=environ, log=self._story.log, **options)

    def targets(self) -> list[str]:
        """The addresses in the file."""
        if not self._file.exists():
            return []
        return [target for group in json.loads(self._file.read_text()) for target in group["targets"]]


@pytest.fixture
def service(agent: Agent, tmp_path: Path, story: CapturedLog) -> Service:
    return Service(agent, tmp_path / "targets.json", story)


def test_a_service_is_registered_inside_the_context_and_not_outside(service: Service) -> None:
    with service.registered():
        assert eventually(service.targets) == [f"127.0.0.1:{service.port}"]
    assert service.targets() == []


def test_it_is_registered_once_it_answers_200(service: Service, agent: Agent) -> None:
    agent.status = 503
    with service.registered(monitor="/internal/monitor?from=roster"):
        eventually(lambda: len(agent.requests) > 3)
        assert service.targets() == []
        agent.status = 200
        eventually(service.targets)
    assert agent.requests[0].path == "/internal/monitor?from=roster"


def test_it_is_unregistered_when_an_error_ends_the_context(service: Service) -> None:
    def fail() -> None:
        with service.registered():
            eventually(service.targets)
            msg = "the application broke"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="the application broke"):
        fail()
    assert service.targets() == []


def test_it_stays_registered_until_the_last_process_that_serves_has_left(service: Service, story: CapturedLog) -> None:
    with service.registered():
        with service.registered():
            eventually(lambda: len(story.lines_with("registered")) == 2)
        assert len(service.targets()) == 1
        assert len(story.lines_with("staying registered: other processes serve")) == 1
    assert service.targets() == []


def test_stopping_a_registration_that_was_not_started_or_is_stopped_does_nothing(service: Service) -> None:
    registration = service.registered()
    registration.stop()
    with service.registered() as running:
        eventually(service.targets)
        running.stop()
        assert service.targets() == []


def test_it_is_registered_as_keywords_say_and_variables_where_they_are_silent(agent: Agent, story: CapturedLog) -> None:
    environ = {
        "STTR_CLIENT_BASEURI": "http://127.0.0.1:1",
        "STTR_ROSTER_SERVICE_NAME": "ignored",
        "STTR_ROSTER_SERVICE_ID": "1",
        "STTR_ROSTER_SERVICE_META": "version=ignored,team=payments",
    }
    observability = stator.Stator(
        service="shop", version="1.4", tags=["blue", "host(`a`,`b`)"], consul=agent.uri, environ=environ, log=story.log
    )
    with observability.registered(urlsplit(agent.uri).port or 0):
        (registered,) = eventually(agent.services.values)
    assert (registered["ID"], registered["Name"]) == ("shop-1", "shop")
    assert (registered["Tags"], registered["Meta"]) == (
        ["blue", "host(`a`,`b`)"],
        {"team": "payments", "version": "1.4"},
    )
    assert agent.services == {}


def test_metadata_of_the_keyword_takes_the_place_of_the_variables(agent: Agent, story: CapturedLog) -> None:
    environ = {"STTR_ROSTER_SERVICE_META": "team=payments"}
    meta = {"zone": "a,b", "empty": ""}
    with stator.registered(urlsplit(agent.uri).port or 0, meta=meta, consul=agent.uri, environ=environ, log=story.log):
        (registered,) = eventually(agent.services.values)
    assert registered["Meta"] == meta


@pytest.mark.parametrize(
    ("environ", "is_warned"),
    [({}, True), ({"STTR_ROSTER_REGISTRAR": "none"}, False), ({"STTR_CLIENT_BASEURI": "http://127.0.0.1:1"}, False)],
)
def test_a_registration_that_has_nowhere_to_register_is_a_warning(
    story: CapturedLog, environ: dict[str, str], *, is_warned: bool
) -> None:
    stator.registered(8000, environ=environ, log=story.log)
    warning = {"level": "warning", "msg": "not registering: neither consul= nor STTR_CLIENT_BASEURI is set"}
    assert [{"level": line["level"], "msg": line["msg"]} for line in story.lines] == ([warning] if is_warned else [])


def make_registration(story: CapturedLog, folder: Path, **options: Any) -> Registration:
    roster = Roster(RosterConfig(), None, lambda: pytest.fail("there is nothing to register"), lambda: True, story.log)
    return Registration(roster, Membership(folder), options.pop("is_ready", lambda: True), story.log, **options)


def test_a_service_that_does_not_answer_for_long_is_logged_once(story: CapturedLog, tmp_path: Path) -> None:
    seconds = iter([0.0, READY_LATE / 2, *[READY_LATE] * 1000])
    with make_registration(story, tmp_path, is_ready=lambda: False, clock=lambda: next(seconds)):
        eventually(lambda: story.lines)
    assert [(line["level"], line["msg"]) for line in story.lines] == [
        ("warning", "not registered yet: /monitor does not answer 200")
    ]


def test_without_a_lock_file_it_logs_a_warning_and_registers(
    service: Service, story: CapturedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with service.registered():
        eventually(service.targets)
    (warning,) = story.lines_with("can't tell whether other workers are serving; unregistering anyway")
    assert "missing" in warning["error"]["message"]
    assert service.targets() == []
