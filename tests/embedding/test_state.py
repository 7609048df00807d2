"""What a keeper shares with the processes of its server."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import falcon.testing
import pytest

import stator
from stator.embedding.state import KeeperState, StateFile, state_path
from stator.roster.metrics import RosterMetrics
from tests.captured_log import CapturedLog
from tests.program import ROOT

KEEPER = """
import sys, time
from pathlib import Path
from stator.embedding.state import StateFile
StateFile(Path(sys.argv[1]))
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the keeper of this process has its state."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return state_path(tmp_path, "shop", os.getpid())


@pytest.fixture
def state(story: CapturedLog) -> KeeperState:
    return KeeperState("shop", story.log)


def values(state: KeeperState) -> dict[str, object]:
    return {point.name: point.value for point in state.collect(0.0).points}


def test_without_a_keeper_there_are_no_metrics_and_nothing_drains(path: Path, state: KeeperState) -> None:
    assert values(state) == {}
    assert not state.is_draining()
    assert not path.exists()


def test_what_the_keeper_shares_is_read_afresh_each_time(path: Path, state: KeeperState, story: CapturedLog) -> None:
    file = StateFile(path)
    metrics = RosterMetrics(story.log, memory=file.memory)
    assert values(state)["registrations"] == 0
    metrics.accepted()
    metrics.confirmed("shop-1")
    assert (values(state)["registrations"], values(state)["registered"], state.is_draining()) == (1, 1, False)
    metrics.stopped()
    metrics.drains()
    assert (values(state)["registered"], state.is_draining()) == (0, True)
    file.remove()
    assert values(state) == {}


def test_a_keepers_file_replaces_that_of_the_last_one(path: Path, state: KeeperState, story: CapturedLog) -> None:
    last = StateFile(path)
    RosterMetrics(story.log, memory=last.memory).drains()
    file = StateFile(path)
    assert last.is_replaced()
    assert not file.is_replaced()
    assert not state.is_draining()
    last.remove()
    assert path.exists()
    file.remove()
    assert not path.exists()


def test_a_keeper_that_was_killed_leaves_nothing_that_counts(path: Path, state: KeeperState) -> None:
    command = [sys.executable, "-c", KEEPER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"started\n"
        assert values(state)["registered"] == 0
        keeper.kill()
    assert path.exists()
    assert values(state) == {}
    StateFile(path).remove()
    assert not path.exists()


def test_only_its_user_can_read_it_and_a_file_of_another_user_does_not_count(
    path: Path, state: KeeperState, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StateFile(path)
    assert path.stat().st_mode & 0o777 == 0o600
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    path.rename(state_path(path.parent, "shop", os.getpid()))
    assert file.is_replaced()
    assert values(state) == {}


def test_a_link_in_its_place_is_replaced_and_not_followed(path: Path, state: KeeperState, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"mine")
    path.symlink_to("elsewhere")
    assert values(state) == {}
    StateFile(path).remove()
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_other_services_and_servers_have_other_files(path: Path, tmp_path: Path) -> None:
    assert state_path(tmp_path, "other", os.getpid()) != path
    assert state_path(tmp_path, "shop", os.getppid()) != path
    with pytest.raises(FileNotFoundError):
        state_path(tmp_path, "shop", 2**22 + 1)


def test_an_application_that_registers_nowhere_has_no_such_collector(story: CapturedLog) -> None:
    for environ, expected in ({}, False), ({"STTR_CLIENT_BASEURI": "http://127.0.0.1:1"}, True):
        client = falcon.testing.TestClient(stator.wsgi_app(environ=environ, log=story.log))
        assert ('collector="roster"' in client.simulate_get("/metrics").text) == expected
