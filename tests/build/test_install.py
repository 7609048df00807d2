"""`make install` and `make uninstall`: what is put where, and what is left alone."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.program import Program

# Below DESTDIR; the unit names the first of them.
PYZ, UNIT, ENV = "opt/stator/stator.pyz", "etc/systemd/system/stator.service", "etc/stator.env"


def make(target: str, destination: Path, **variables: str) -> str:
    """Makes a target with the artifact as it is; gives what that prints."""
    words = [f"{name}={value}" for name, value in {"DESTDIR": str(destination), **variables}.items()]
    command = ["make", "--silent", "--old-file=dist/stator.pyz", target, *words]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, umask=0o077
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def files(folder: Path) -> dict[str, str]:
    """The mode of each file below a folder."""
    found = (path for path in folder.rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): f"{path.lstat().st_mode & 0o777:o}" for path in found}


@pytest.mark.usefixtures("pyz")
def test_puts_the_artifact_the_unit_and_its_settings_in_place(tmp_path: Path) -> None:
    said = make("install", tmp_path)
    assert files(tmp_path) == {PYZ: "644", UNIT: "644", ENV: "640"}
    assert (tmp_path / UNIT).read_text() == (ROOT / "etc/stator.service").read_text()
    assert (tmp_path / ENV).read_text() == (ROOT / "etc/stator.env").read_text()
    assert str(tmp_path / ENV) in said
    # The service's user must reach it, whatever the umask.
    assert (tmp_path / PYZ).parent.stat().st_mode & 0o777 == 0o755


def test_what_it_has_put_in_place_runs_with_its_settings(pyz: Path, tmp_path: Path) -> None:
    make("install", tmp_path)
    assert (tmp_path / PYZ).read_bytes() == pyz.read_bytes()
    (tmp_path / ENV).write_text("STTR_SERVER_TIMEOUT=7s\n")
    with Program({}, tmp_path, command=["python3", PYZ], args=["-e", ENV]) as program:
        assert json.loads(program.get("/config").body)["config"]["server"]["timeout"] == "7s"


@pytest.mark.usefixtures("pyz")
def test_leaves_settings_that_are_there_as_they_are(tmp_path: Path) -> None:
    (tmp_path / ENV).parent.mkdir()
    (tmp_path / ENV).write_text("STTR_SERVER_PORT=1234\n")
    (tmp_path / ENV).chmod(0o600)
    make("install", tmp_path)
    make("install", tmp_path)
    assert (tmp_path / ENV).read_text() == "STTR_SERVER_PORT=1234\n"
    assert files(tmp_path)[ENV] == "600"


@pytest.mark.usefixtures("pyz")
def test_leaves_settings_that_a_link_names_as_they_are(tmp_path: Path) -> None:
    (tmp_path / ENV).parent.mkdir()
    (tmp_path / ENV).symlink_to("mounted-later.env")
    make("install", tmp_path)
    assert (tmp_path / ENV).readlink() == Path("mounted-later.env")
    assert not (tmp_path / "etc/mounted-later.env").exists()


@pytest.mark.usefixtures("pyz")
def test_the_unit_starts_the_artifact_where_the_prefix_has_it(tmp_path: Path) -> None:
    make("install", tmp_path, PREFIX="/srv/apps")
    assert files(tmp_path).keys() == {"srv/apps/stator/stator.pyz", UNIT, ENV}
    commands = [line for line in (tmp_path / UNIT).read_text().splitlines() if line.startswith("ExecStart=")]
    assert commands == ["ExecStart=/usr/bin/python3 /srv/apps/stator/stator.pyz"]


@pytest.mark.usefixtures("pyz")
@pytest.mark.parametrize("prefix", ["/opt", "/srv/apps"])
def test_uninstall_leaves_the_settings_alone(tmp_path: Path, prefix: str) -> None:
    make("install", tmp_path, PREFIX=prefix)
    for _ in range(2):
        make("uninstall", tmp_path, PREFIX=prefix)
        assert files(tmp_path) == {ENV: "640"}
    assert not (tmp_path / prefix[1:] / "stator").exists()


@pytest.mark.usefixtures("pyz")
def test_uninstall_keeps_what_others_have_put_beside_it(tmp_path: Path) -> None:
    make("install", tmp_path)
    (tmp_path / PYZ).with_name("plugin.py").touch()
    make("uninstall", tmp_path)
    assert files(tmp_path).keys() == {"opt/stator/plugin.py", ENV}
