"""The version stands in stator/version.py, and whatever says it says the same."""

import json
import re
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

from prometheus_client.parser import text_string_to_metric_families

from stator import __version__
from tests.conftest import ROOT
from tests.program import MODULE, Program

RELEASED = ".dev" not in __version__


def version_of(*command: str | Path, **environment: str) -> str:
    """What a program answers to `-V`."""
    done = subprocess.run([*command, "-V"], cwd="/", env=environment, capture_output=True, text=True, check=True)
    return done.stdout.removeprefix("stator ").strip()


def version_in(metadata: str) -> str:
    return str(Parser().parsestr(metadata)["Version"])


def test_it_is_a_version_of_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", __version__)


def test_the_program_says_it() -> None:
    assert version_of(*MODULE, PYTHONPATH=str(ROOT)) == __version__


def test_the_wheel_has_it_in_its_name_and_in_what_it_installs(wheel: Path) -> None:
    (file,) = wheel.parent.glob("*.whl")
    assert file.name.split("-")[1] == __version__
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    assert version_in(metadata.read_text("utf-8")) == __version__
    assert version_of(sys.executable, "-m", "stator", PYTHONPATH=str(wheel)) == __version__


def test_the_archive_says_it_and_holds_the_distribution_of_it(pyz: Path) -> None:
    assert version_of(sys.executable, pyz) == __version__
    with ZipFile(pyz) as archive:
        (name,) = [name for name in archive.namelist() if re.search(r"/stator_observability-.*/METADATA$", name)]
        assert version_in(archive.read(name).decode()) == __version__


def test_the_metrics_and_the_configuration_have_it(tmp_path: Path) -> None:
    with Program({"STTR_COLLECTORS": "wave"}, tmp_path) as program:
        families = {each.name: each for each in text_string_to_metric_families(program.get("/metrics").body.decode())}
        configuration = json.loads(program.get("/config").body)["config"]
        assert program.stop() == 0
    (build,) = families["stator_build_info"].samples
    assert (build.labels["version"], configuration["version"]) == (__version__, __version__)


def test_the_image_is_labelled_with_it() -> None:
    dockerfile = (ROOT / "etc/stator.Dockerfile").read_text()
    assert re.findall(r'org\.opencontainers\.image\.version="(.*?)"', dockerfile) == [__version__]


def test_the_newest_changes_are_those_of_it() -> None:
    heading = re.search("^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heading
    expected = rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)" if RELEASED else r"\d+\.\d+\.\d+ \(unreleased\)"
    assert re.fullmatch(expected, heading[1])
    assert heading[1].split()[0] == __version__.partition(".dev")[0]


def test_nothing_else_declares_one() -> None:
    """Neither a second place in the sources, nor the package's own configuration."""
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text("utf-8")
    assigned = [
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "stator").rglob("*.py")
        if re.search(r"^(__)?version(__)? = [\"']", file.read_text("utf-8"), re.MULTILINE | re.IGNORECASE)
    ]
    assert assigned == ["stator/version.py"]
