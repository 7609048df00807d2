"""Being registered for as long as a service answers, with a file of targets to be seen in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import stator
from stator.embedding.membership import Membership
from stator.embedding.registration import LATE, Registration
from stator.roster.roster import Roster, RosterConfig
from tests.captured_log import CapturedLog
from tests.fakes import Agent
from tests.program import eventually


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as made:
        yield made


@pytest.fixture
def service() -> Iterator[Agent]:
    """What answers /monitor."""
    with Agent() as running:
        yield running


class World:
    """A service, and the file in which it is registered."""

    def __init__(self, service: Agent, file: Path, story: CapturedLog) -> None:
        self.port = urlsplit(service.uri).port or 0
        self._file, self._story = file, story

    def registered(self, **options: Any) -> Registration:
        environ = {"STTR_ROSTER_REGISTRAR": "file", "STTR_FILE_PATH": str(self._file)}
        return stator.registered(self.port, host="127.0.0.1", environ=environ, log=self._story.log, **options)

    def targets(self) -> list[str]:
        """Addresses in the file."""
        if not self._file.exists():
            return []
        return [target for group in json.loads(self._file.read_text()) for target in group["targets"]]


@pytest.fixture
def world(service: Agent, tmp_path: Path, story: CapturedLog) -> World:
    return World(service, tmp_path / "targets.json", story)


def test_a_service_is_registered_inside_the_context_and_not_outside(world: World) -> None:
    with world.registered():
        assert eventually(world.targets) == [f"127.0.0.1:{world.port}"]
    assert world.targets() == []


def test_it_is_registered_once_it_answers_200(world: World, service: Agent) -> None:
    service.status = 503
    with world.registered(monitor="/internal/monitor?from=roster"):
        eventually(lambda: len(service.requests) > 3)
        assert world.targets() == []
        service.status = 200
        eventually(world.targets)
    assert service.requests[0].path == "/internal/monitor?from=roster"


def test_it_is_unregistered_where_an_error_ends_the_context(world: World) -> None:
    def fail() -> None:
        with world.registered():
            eventually(world.targets)
            msg = "the application broke"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="the application broke"):
        fail()
    assert world.targets() == []


def test_it_stays_registered_until_the_last_of_those_that_serve_has_left(world: World, story: CapturedLog) -> None:
    with world.registered():
        with world.registered():
            eventually(lambda: len(story.told("registered")) == 2)
        assert len(world.targets()) == 1
        assert len(story.told("staying registered: other processes serve")) == 1
    assert world.targets() == []


def test_stopping_what_was_not_started_or_is_stopped_does_nothing(world: World) -> None:
    registration = world.registered()
    registration.stop()
    with world.registered() as running:
        eventually(world.targets)
        running.stop()
        assert world.targets() == []


def made(story: CapturedLog, folder: Path, **options: Any) -> Registration:
    roster = Roster(RosterConfig(), None, lambda: pytest.fail("there is nothing to register"), lambda: True, story.log)
    return Registration(roster, Membership(folder), options.pop("is_ready", lambda: True), story.log, **options)


def test_a_service_that_does_not_answer_for_long_is_told_once(story: CapturedLog, tmp_path: Path) -> None:
    seconds = iter([0.0, LATE / 2, *[LATE] * 1000])
    with made(story, tmp_path, is_ready=lambda: False, clock=lambda: next(seconds)):
        eventually(lambda: story.lines)
    assert [(line["level"], line["msg"]) for line in story.lines] == [
        ("warning", "not registered yet: /monitor does not answer 200")
    ]


def test_where_no_lock_can_be_had_it_is_told_and_registered_all_the_same(story: CapturedLog, tmp_path: Path) -> None:
    with made(story, tmp_path / "missing"):
        eventually(lambda: story.told("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)"))
    assert story.lines[0]["msg"] == "can't tell whether other processes serve, leaving for all of them"
    assert "missing" in story.lines[0]["error"]["message"]
