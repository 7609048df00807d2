"""The tests' own container engine leaves nothing behind, whatever happens."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.containers import engine
from tests.program import ROOT, eventually


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    """This machine's network and mounts are as before."""
    before = traces()
    yield
    assert traces() == before


def traces() -> list[str]:
    interfaces = sorted(each.name for each in Path("/sys/class/net").iterdir())
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return [*interfaces, *mounts, *map(str, engine.CGROUPS.rglob("stator-gone"))]


def have_ended(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def test_a_stopped_engine_is_gone(tmp_path: Path) -> None:
    with engine.own(tmp_path, "gone") as running:
        assert "docker0" in running.run("ip", "link")
        processes = psutil.Process().children(recursive=True)
        assert len(processes) > 2
    eventually(lambda: have_ended(processes))


def test_an_engine_whose_tests_are_killed_is_gone(tmp_path: Path) -> None:
    engine.check_means()
    command = (sys.executable, "-m", "tests.containers.engine", tmp_path, "gone")
    tests = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert tests.stdout is not None
    processes = [psutil.Process(pid) for pid in json.loads(tests.stdout.readline())]
    assert {"dockerd", "containerd", "slirp4netns", "docker-proxy", "busybox"} <= {each.name() for each in processes}
    tests.send_signal(signal.SIGKILL)
    tests.communicate()
    eventually(lambda: have_ended(processes))
    # What is left, empty cgroups, the next one removes.
    with engine.own(tmp_path, "gone") as running:
        assert running.docker("ps", "--quiet") == ""
