"""The health check of the image, which is a program of its own."""

import subprocess
import sys
from pathlib import Path

from tests.credentials import settings
from tests.program import ROOT, Program

CHECK = (sys.executable, "-I", ROOT / "etc/healthcheck.py")


def check(port: int) -> int:
    return subprocess.run(CHECK, env={"STTR_SERVER_PORT": str(port)}, stderr=subprocess.DEVNULL, check=False).returncode


def test_it_is_healthy_as_long_as_monitor_answers(tmp_path: Path) -> None:
    with Program({"STTR_ROSTER_DRAIN": "5s"}, tmp_path) as stator:
        stator.wait_for("ready")
        assert check(stator.port) == 0
        stator.stop()
        assert check(stator.port) == 1


def test_it_is_healthy_where_monitor_is_not_for_it(tmp_path: Path) -> None:
    for variables in ({**settings(tmp_path), "STTR_SERVER_OPENPATHS": ""}, {"STTR_SERVER_ALLOW": "127.0.0.9"}):
        with Program(variables, tmp_path) as stator:
            stator.wait_for("ready")
            assert check(stator.port) == 0
        assert check(stator.port) == 1
