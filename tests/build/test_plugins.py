"""Plugins of each kind run by the artifact."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import json

from tests.build.test_pyz import start
from tests.conftest import ROOT
from tests.program import Program

PAGE = (ROOT / "docs/plugins.md").read_text("utf-8")


def example() -> str:
    """The collector with settings that the docs show."""
    codes: list[str] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (code,) = (code for code in codes if "class QueueDepth" in code and "setting(" in code)
    return code


def in_folder(folder: Path) -> dict[str, str]:
    (folder / "plugins").mkdir()
    (folder / "plugins/queue_depth.py").write_text(example())
    return {"STTR_PLUGINS_PATH": str(folder / "plugins"), "STTR_COLLECTORS": "wave,queue_depth"}


def as_class(folder: Path) -> dict[str, str]:
    (folder / "jobs").mkdir()
    (folder / "jobs/__init__.py").touch()
    (folder / "jobs/waiting.py").write_text(example())
    return {"PYTHONPATH": str(folder), "STTR_COLLECTORS": "wave,jobs.waiting:QueueDepth"}


def installed(folder: Path) -> dict[str, str]:
    env = as_class(folder)
    about = folder / "jobs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: jobs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[stator.collectors]\nqueue_depth = jobs.waiting:QueueDepth\n")
    return env | {"STTR_COLLECTORS": "wave,queue_depth"}


EVERY_KIND = pytest.mark.parametrize("plugin", [in_folder, as_class, installed])


@EVERY_KIND
def test_help_and_the_configuration_have_its_settings(
    pyz: Path, tmp_path: Path, plugin: Callable[[Path], dict[str, str]]
) -> None:
    env = plugin(tmp_path) | {"STTR_QUEUE_DEPTH_FOLDER": "/var/mail"}
    (line,) = re.findall("^STTR_QUEUE_DEPTH_FOLDER .*", start(pyz, "-h", **env).stdout, re.MULTILINE)
    assert line.split(maxsplit=3) == [
        "STTR_QUEUE_DEPTH_FOLDER",
        "String",
        "/var/spool/jobs",
        "folder that holds a file for each job",
    ]
    answer = start(pyz, "-c", **env)
    assert json.decode(answer.stdout)["collectors"]["plugins"] == {
        "queue_depth": {"folder": "/var/mail", "max_age": "1h0m0s", "alarm": {"above": 100}}
    }
    assert answer.stderr == ""


@EVERY_KIND
def test_it_collects(pyz: Path, tmp_path: Path, plugin: Callable[[Path], dict[str, str]]) -> None:
    env = plugin(tmp_path)
    (tmp_path / "waiting").mkdir()
    for nth in range(3):
        (tmp_path / f"waiting/{nth}").touch()
    env |= {"STTR_QUEUE_DEPTH_FOLDER": str(tmp_path / "waiting"), "PYTHONPATH": env.get("PYTHONPATH", "")}
    with Program(env, tmp_path, command=["python3", str(pyz)]) as program:
        lines = program.get("/metrics").body.decode().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("queue_depth ")] == ["3"]
    assert "# HELP queue_depth Jobs that wait" in lines


def test_help_in_an_env_file_is_that_of_its_plugins(pyz: Path, tmp_path: Path) -> None:
    file = tmp_path / "stator.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in in_folder(tmp_path).items()))
    assert "STTR_QUEUE_DEPTH_FOLDER" in start(pyz, "--env-file", str(file), "-h").stdout


@pytest.mark.parametrize("flags", [[], ["--check"], ["-c"]])
def test_one_that_fails_stops_the_start_with_a_line_that_names_it(pyz: Path, tmp_path: Path, flags: list[str]) -> None:
    env = in_folder(tmp_path)
    file = tmp_path / "plugins/queue_depth.py"
    file.write_text("import nothing_like_it")
    done = start(pyz, *flags, **env, STTR_SERVER_PORT="x")
    assert (done.returncode, done.stdout) == (2, "")
    mistakes = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert mistakes == [
        "stator: STTR_SERVER_PORT='x': expected an integer from 0 to 65535",
        (
            "stator: STTR_COLLECTORS='wave,queue_depth': expected collectors that can be loaded;"
            f" {file} can't be imported: ModuleNotFoundError: No module named 'nothing_like_it'"
            " (queue_depth.py, line 1)"
        ),
    ]


def test_help_is_there_for_one_whose_plugin_fails(pyz: Path, tmp_path: Path) -> None:
    env = in_folder(tmp_path)
    (tmp_path / "plugins/queue_depth.py").write_text("1 / 0")
    done = start(pyz, "-h", **env)
    assert done.returncode == 0
    assert "STTR_SERVER_PORT" in done.stdout
