"""``--check`` collects once, and says in a line for each collector what fails."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.program import ROOT

PLUGINS = """
import threading
from stator import Point

class Awaits:
    async def collect(self, now): return []

class Text:
    def collect(self, now): return "jobs 1"

class Raises:
    def collect(self, now):
        yield Point("good", "", 1)
        raise OSError("no database")

class Hangs:
    def collect(self, now): threading.Event().wait()

class BadPoints:
    def collect(self, now):
        yield Point("jobs", "", 1, labels={"": "x"})
        yield Point("more", "", "one")

class BadInOpenMetrics:
    def collect(self, now): yield Point("jobs", "", 1, exemplars=("x",))

class NotMade:
    def __init__(self): raise ValueError("no config")
    def collect(self, now): return []

class Good:
    def collect(self, now): yield Point("good", "", 1)

class Texts:
    def collect(self, now): return ["jobs 1"]

class AsyncRegistrar:
    async def register(self, service, **how): ...
    def unregister(self, service, **how): ...
    def observe(self, service, **how): ...
    def cancel(self): ...
    def close(self): ...
"""


def check(folder: Path, **env: str) -> tuple[int, list[str]]:
    """The exit status of ``--check``, and its lines."""
    (folder / "own.py").write_text(PLUGINS)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{folder}", "STTR_METRICS_TIMEOUT": "1s", **env}
    command = [sys.executable, "-m", "stator", "--check"]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == ""
    return done.returncode, [line.removeprefix("stator: ") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        (
            "Awaits",
            "the collector own:Awaits fails: collect() must return a PointsAt or an iterable of Points, not <corou",
        ),
        (
            "Text",
            "the collector own:Text fails: collect() must return a PointsAt or an iterable of Points, not 'jobs 1'",
        ),
        ("Texts", "the collector own:Texts fails: 'jobs 1' is not a Point"),
        ("Raises", "the collector own:Raises fails: OSError: no database (own.py, line 14)"),
        ("Hangs", "the collector own:Hangs fails: it did not answer in time"),
        (
            "BadPoints",
            "the collector own:BadPoints fails: jobs{=\"x\"}: '' can't be a label's name here; more: 'one' is not",
        ),
        (
            "BadInOpenMetrics",
            "the collector own:BadInOpenMetrics fails: jobs: its exemplars must be a tuple of Exemplars",
        ),
        ("NotMade", "own:NotMade can't be made: ValueError: no config (own.py, line 28)"),
    ],
)
def test_a_collector_that_fails_is_a_mistake(tmp_path: Path, name: str, begin: str) -> None:
    status, lines = check(tmp_path, STTR_COLLECTORS=f"runtime,own:Good,own:{name}")
    assert (status, len(lines)) == (2, 1)
    assert lines[0].startswith(begin)


def test_each_has_a_line_and_all_together_take_no_longer_than_a_scrape(tmp_path: Path) -> None:
    began = time.monotonic()
    status, lines = check(tmp_path, STTR_COLLECTORS="own:Hangs,own:NotMade,own:Awaits", STTR_LOGGER_LVL="debug")
    assert (status, len(lines)) == (2, 4)
    assert [line for line in lines if line.startswith("warning")] == lines[-1:]
    assert time.monotonic() - began < 20


def test_a_built_in_collector_that_fails_here_is_a_warning(tmp_path: Path) -> None:
    status, (line,) = check(tmp_path, STTR_DISKUSAGE_PATHS="/missing")
    assert status == 0
    assert line.startswith("warning: the collector diskusage fails: FileNotFoundError")


def test_a_registrar_that_can_not_register_is_a_mistake(tmp_path: Path) -> None:
    problem = "the registrar own:AsyncRegistrar can't be used: its register() is async"
    assert check(tmp_path, STTR_ROSTER_REGISTRAR="own:AsyncRegistrar") == (2, [problem])


def test_nothing_is_said_of_what_is_good(tmp_path: Path) -> None:
    assert check(tmp_path, STTR_COLLECTORS="runtime,own:Good") == (0, [])
