"""A registration from `start` to `stop`, with the file registrar."""

import fcntl
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import stator
from stator.embedding.registration import Registration
from stator.settings.declare import StartError
from tests.captured_log import CapturedLog
from tests.fakes import Agent
from tests.program import cannot, eventually


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

    def registered(self, *, environ: Mapping[str, str] | None = None, **options: Any) -> Registration:
        environ = {"STTR_ROSTER_REGISTRAR": "file", "STTR_FILE_PATH": str(self._file), **(environ or {})}
        return stator.registered(self.port, host="127.0.0.1", environ=environ, log=self._story.log, **options)

    def targets(self) -> list[str]:
        """The addresses in the file."""
        if not self._file.exists():
            return []
        return [target for group in json.loads(self._file.read_text()) for target in group["targets"]]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lock files lie in a folder of the test's own, and none is left there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    eventually(lambda: not list(tmp_path.glob("stator-*")))


@pytest.fixture
def service(agent: Agent, tmp_path: Path, story: CapturedLog) -> Service:
    return Service(agent, tmp_path / "targets.json", story)


def test_a_service_is_registered_inside_the_context_and_not_outside(service: Service) -> None:
    with service.registered():
        assert eventually(service.targets) == [f"127.0.0.1:{service.port}"]
    assert service.targets() == []


def test_it_needs_no_working_folder(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # to come back in the end
    monkeypatch.syspath_prepend("")
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    with service.registered():
        eventually(service.targets)
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
            eventually(service.targets)
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


def test_a_registration_can_be_started_once_at_a_time(service: Service) -> None:
    with service.registered() as running:
        with pytest.raises(RuntimeError, match="this registration is started already"):
            running.start()
        eventually(service.targets)
        running.stop()
        running.start()
        eventually(service.targets)
    assert service.targets() == []


def test_stopping_waits_for_the_drain_after_it_has_unregistered(service: Service) -> None:
    registration = service.registered(environ={"STTR_ROSTER_DRAIN": "500ms"})
    registration.start()
    eventually(service.targets)
    stopping = threading.Thread(target=registration.stop)
    stopping.start()
    eventually(lambda: not service.targets())
    unregistered = time.monotonic()
    stopping.join()
    assert 0.4 < time.monotonic() - unregistered < 2


def test_a_forked_child_does_not_unregister(service: Service) -> None:
    with service.registered() as running:
        eventually(service.targets)
        if (child := os.fork()) == 0:
            running.stop()
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(0.5)
        assert service.targets()
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


def test_another_version_takes_over_and_leaves_the_service_registered(agent: Agent, story: CapturedLog) -> None:
    def registered(version: str) -> Registration:
        port = urlsplit(agent.uri).port or 0
        return stator.registered(port, service="shop", version=version, consul=agent.uri, environ={}, log=story.log)

    def version() -> str | None:
        return next((each["Meta"]["version"] for each in agent.services.values()), None)

    with registered("1"):
        eventually(lambda: version() == "1")
        with registered("2"):
            eventually(lambda: version() == "2")
    assert agent.asked("/v1/agent/service/deregister")[:-1] == []
    assert agent.services == {}


def test_without_a_folder_for_its_lock_file_it_does_not_start(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(stator.StartError, match=r"can't register: .*No such file or directory: '.*missing"):
        service.registered().start()


def test_a_lock_file_of_another_user_is_refused(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(stator.StartError, match=r"can't register: .*/stator-.*\.lock belongs to another user"):
        service.registered().start()
    for each in tmp_path.glob("stator-*"):
        each.unlink()


@pytest.mark.parametrize("text", ["the registrar has no file", ""])
def test_what_keeps_the_keeper_from_starting_is_raised(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null; printf '{text}'\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(stator.StartError, match=f"can't register: {text or 'the keeper process failed'}"):
        service.registered().start()
    assert list(tmp_path.glob("stator-*")) == []


def test_a_server_with_python_in_it_starts_the_keeper_with_an_interpreter(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    with service.registered():
        eventually(service.targets)


def test_modules_in_the_working_folder_are_not_taken_for_others(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hashlib.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with service.registered():
        eventually(service.targets)


def test_the_file_that_is_written_may_lie_below_the_working_folder(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with service.registered(environ={"STTR_FILE_PATH": "targets.json"}):
        eventually(service.targets)


@pytest.mark.parametrize("was_up", [False, True])
def test_an_agent_that_is_down_for_long_fills_no_log_of_the_keeper(
    service: Service, capfd: pytest.CaptureFixture[str], was_up: bool
) -> None:
    with Agent(200 if was_up else 500) as consul:
        environ = {
            "STTR_ROSTER_REGISTRAR": "consul",
            "STTR_CLIENT_BASEURI": consul.uri,
            "STTR_ROSTER_RETRYMAX": "10ms",
        }
        written = ""

        def logged(msg: str) -> bool:
            nonlocal written
            written += capfd.readouterr().err
            return f'"msg":"{msg}"' in written

        with service.registered(environ=environ):
            if was_up:
                eventually(lambda: logged("registered"))
                consul.status = 500
            down_since = len(consul.requests)
            eventually(lambda: len(consul.requests) > down_since + 200, within=30)
            assert logged("registration lost" if was_up else "failed to register, trying again")
            consul.status = 200
    assert len(written.splitlines()) <= 8


OTHER_USER = 4711


@contextmanager
def held_by_another_user(path: Path, mode: int) -> Iterator[None]:
    """A file that another user has created, with its exclusive lock held."""
    (read, write), (ready, report) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.setuid(OTHER_USER)
        os.umask(0)
        fcntl.flock(os.open(path, os.O_CREAT | os.O_RDWR, mode), fcntl.LOCK_EX)
        os.close(write)
        os.write(report, b".")
        os.read(read, 1)
        os._exit(0)
    assert os.read(ready, 1) == b"."
    yield
    for each in (read, write, ready, report):
        os.close(each)
    os.waitpid(child, 0)


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_lock_file_that_another_user_holds_is_reported_and_not_waited_for(
    service: Service, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    if os.geteuid():
        cannot("only root can be several users")
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        Path(shared).chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", shared)
        registration = service.registered()
        assert registration._find_task
        path = registration._find_task().membership()._path
        with held_by_another_user(path, mode):
            with pytest.raises(StartError, match=f"^can't register: {path} belongs to another user$"):
                registration.start()
            registration.stop()
        path.unlink()
        with service.registered():
            eventually(service.targets)
