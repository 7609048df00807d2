"""The artifact: small, the same wherever it is built, and at home under every Python and in every container."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytest

from tests import pythons
from tests.program import ROOT, Program, cannot

# Nobody can make a folder there, not even root.
UNWRITABLE = "/proc"
# A user who owns nothing.
OTHER_USER = 4711


EVERY_PYTHON = pytest.mark.parametrize("python", pythons.found().values(), ids=pythons.found())


def start(pyz: Path, *arguments: str, python: str = sys.executable, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the artifact to its end."""
    command = [python, str(pyz), *arguments]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False, timeout=60)


def cache_name(pyz: Path) -> str:
    """Where the artifact unpacks to, below its root."""
    with ZipFile(pyz) as archive:
        build_id = json.loads(archive.read("environment.json"))["build_id"]
    tag = EXTENSION_SUFFIXES[0].split(".")[1]
    return f"stator-{tag}/{pyz.name}_{build_id}"


def test_is_at_most_four_megabytes(pyz: Path) -> None:
    assert pyz.stat().st_size <= 4_000_000


def test_unpacks_at_most_twelve_megabytes_with_one_pythons_compiled_modules(pyz: Path, tmp_path: Path) -> None:
    assert start(pyz, "--check", SHIV_ROOT=str(tmp_path)).returncode == 0
    unpacked = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in unpacked) <= 12_000_000
    endings = {path.name.partition(".")[2] for path in unpacked if path.suffix == ".so"}
    assert endings == {EXTENSION_SUFFIXES[0].removeprefix("."), "abi3.so"}
    assert not [path.name for path in unpacked if "musl" in path.name]


def test_serves_the_page_with_all_of_its_files(pyz: Path, tmp_path: Path) -> None:
    with Program({}, tmp_path, command=(sys.executable, str(pyz))) as stator:
        page = stator.get("/").body.decode()
        names = re.findall(r'(?:href|src)="(assets/[^"]+)"', page)
        assert len(names) > 5
        for name in names:
            answer = stator.get(f"/{name}")
            assert (answer.status, answer.body) == (200, (ROOT / "stator/web/status" / name).read_bytes())


def test_holds_the_distribution_under_its_name_and_the_package_under_its_own(pyz: Path) -> None:
    with ZipFile(pyz) as archive:
        folders = {name.split("/")[1] for name in archive.namelist() if name.startswith("site-packages/stator")}
    assert "stator" in folders
    (about,) = folders - {"stator"}
    assert re.fullmatch(r"stator_observability-.*\.dist-info", about)


@EVERY_PYTHON
def test_says_its_version_under_each_python(pyz: Path, python: str) -> None:
    done = start(pyz, "-V", python=python)
    assert re.fullmatch(r"(stator )?\d+\.\d+\S*\n", done.stdout), done


@pytest.mark.parametrize("flag", ["-h", "--help", "-V", "--version"])
def test_answers_from_the_archive_what_the_program_answers(pyz: Path, flag: str) -> None:
    answer = subprocess.run([sys.executable, "-m", "stator", flag], capture_output=True, text=True, check=True).stdout
    assert start(pyz, flag).stdout == answer


@EVERY_PYTHON
def test_loads_the_compiled_parts_for_each_python(pyz: Path, python: str) -> None:
    parts = "import bcrypt._bcrypt as b, httptools.parser.parser as h, msgspec._core as m, psutil._psutil_linux as p"
    code = f"{parts}; print(b.__file__, h.__file__, m.__file__, p.__file__)"
    done = start(pyz, "-c", code, python=python, SHIV_INTERPRETER="1")
    assert len(done.stdout.split()) == 4, done
    assert all(f"/{pyz.name}_" in path for path in done.stdout.split())


def test_unpacks_anew_what_this_python_needs_where_that_is_asked_for(pyz: Path, tmp_path: Path) -> None:
    first = start(pyz, "--check", SHIV_ROOT=str(tmp_path))
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.so"))
    (library,) = tmp_path.rglob("_psutil_linux*.so")
    library.unlink()
    again = start(pyz, "--check", SHIV_ROOT=str(tmp_path), SHIV_FORCE_EXTRACT="1")
    assert (first.returncode, again.returncode) == (0, 0), again
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.so")) == before


def test_takes_its_own_packages_before_those_of_the_machine(pyz: Path, tmp_path: Path) -> None:
    (tmp_path / "attrs.py").write_text("raise RuntimeError('not ours')")
    assert start(pyz, "--check", PYTHONPATH=str(tmp_path)).returncode == 0


@pytest.mark.parametrize("home", [UNWRITABLE, "/nowhere/at/all"])
def test_unpacks_among_temporary_files_where_there_is_no_home_to_write_to(
    pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    monkeypatch.delenv("SHIV_ROOT")
    first, second = (start(pyz, "--check", HOME=home, TMPDIR=str(tmp_path)) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"stator-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def planted(pyz: Path) -> Iterator[Path]:
    """A home that all can write to, where another user has put a folder that would be taken for the unpacked one."""
    if os.geteuid():
        cannot("only root can be several users")
    with TemporaryDirectory(dir="/tmp") as name:
        home = Path(name)
        home.chmod(0o1777)
        site = home / ".shiv" / cache_name(pyz) / "site-packages/stator"
        child = os.fork()
        if child == 0:
            os.setgid(OTHER_USER)
            os.setuid(OTHER_USER)
            site.mkdir(parents=True)
            (site / "__init__.py").write_text("")
            (site / "main.py").write_text("def run():\n    print('planted')")
            os._exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        yield home


@pytest.mark.parametrize(
    "env", [{"HOME": "."}, {"SHIV_ROOT": ".shiv"}, {"SHIV_ROOT": ".shiv", "SHIV_CONSOLE_SCRIPT": "x"}]
)
def test_runs_no_code_that_another_user_has_planted_in_a_shared_folder(
    pyz: Path, planted: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHIV_ROOT")
    done = start(
        pyz,
        "--check",
        **{name: str(planted / value) if name != "SHIV_CONSOLE_SCRIPT" else value for name, value in env.items()},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"stator.pyz: {planted / '.shiv'} is not ours alone, its owner is {OTHER_USER}, ")
    assert len(done.stderr.splitlines()) == 1


def test_unpacks_nothing_into_a_folder_of_another_user(pyz: Path, tmp_path: Path) -> None:
    if os.geteuid():
        cannot("only root can be several users")
    os.chown(tmp_path, OTHER_USER, OTHER_USER)
    done = start(pyz, "--check", SHIV_ROOT=str(tmp_path / "deep/root"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"stator.pyz: {tmp_path} is not ours alone")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("which", ["", "{}", "{}/site-packages"])
def test_takes_no_code_from_a_folder_that_others_can_write_to(pyz: Path, tmp_path: Path, which: str) -> None:
    assert start(pyz, "--check", SHIV_ROOT=str(tmp_path)).returncode == 0
    folder = tmp_path / which.format(cache_name(pyz))
    for mode in (0o777, 0o775):
        folder.chmod(mode)
        done = start(pyz, "--check", SHIV_ROOT=str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.startswith(f"stator.pyz: {folder} is not ours alone, ")
    folder.chmod(0o755)
    assert start(pyz, "--check", SHIV_ROOT=str(tmp_path)).returncode == 0


def test_takes_no_code_by_a_link_into_a_folder_that_others_can_write_to(pyz: Path, tmp_path: Path) -> None:
    shared, link = tmp_path / "shared", tmp_path / "link"
    shared.mkdir()
    link.symlink_to(shared)
    shared.chmod(0o777)
    done = start(pyz, "--check", SHIV_ROOT=str(link))
    assert done.returncode == 1
    assert done.stderr.startswith(f"stator.pyz: {shared} is not ours alone")


def test_takes_its_own_folder_among_those_of_others(pyz: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    for _ in range(2):
        assert start(pyz, "--check", SHIV_ROOT=str(tmp_path / "own")).returncode == 0


def test_takes_no_folder_that_others_can_write_to(pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHIV_ROOT")
    folder = tmp_path / f"stator-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    done = start(pyz, "--check", HOME=UNWRITABLE, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"stator.pyz: {folder} is not ours alone")
    assert not list(folder.iterdir())


def mounted(pyz: Path, mount: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the artifact where `mount`, a shell's commands, was done before, for it alone."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        cannot(f"nothing can be mounted here: {tried.stderr.strip()}")
    command = [*alone, sys.executable, str(pyz), "--check"]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True, check=False, timeout=60)


def test_unpacks_to_no_folder_that_code_cannot_be_loaded_from(
    pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noexec = f"mount -t tmpfs -o noexec no {tmp_path}"
    done = mounted(pyz, noexec, SHIV_ROOT=str(tmp_path / "shiv"))
    assert done.returncode == 1
    assert re.fullmatch(
        rf"stator\.pyz: {tmp_path}/shiv is mounted noexec.*: set SHIV_ROOT to another folder\n", done.stderr
    )
    monkeypatch.delenv("SHIV_ROOT")
    done = mounted(pyz, noexec, HOME=UNWRITABLE, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert re.fullmatch(r"stator\.pyz: can't unpack to .*: set SHIV_ROOT to another folder .*\n", done.stderr)
    # The other one of the two will do.
    assert mounted(pyz, noexec, HOME=str(tmp_path), TMPDIR=str(tmp_path.parent)).returncode == 0


@pytest.mark.parametrize(
    ("options", "reason"), [("size=100k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_says_in_a_line_that_there_is_no_room_to_unpack(pyz: Path, tmp_path: Path, options: str, reason: str) -> None:
    done = mounted(pyz, f"mount -t tmpfs -o {options} no {tmp_path}", SHIV_ROOT=str(tmp_path))
    assert done.returncode == 1
    assert (
        done.stderr
        == f"stator.pyz: can't unpack to {tmp_path}/{cache_name(pyz)}, {reason}: set SHIV_ROOT to another folder\n"
    )


def test_says_in_a_line_that_it_cannot_unpack(pyz: Path) -> None:
    done = start(pyz, "--check", SHIV_ROOT=f"{UNWRITABLE}/shiv")
    assert done.returncode == 1
    assert re.fullmatch(r"stator\.pyz: can't unpack to .*\n", done.stderr)


@pytest.mark.parametrize("root", ["", "relative"])
@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_says_in_a_line_that_its_working_folder_is_gone(
    pyz: Path, tmp_path: Path, arguments: tuple[str, ...], root: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "sh", sys.executable, str(pyz), *arguments]
    env = os.environ | ({"SHIV_ROOT": root} if root else {})
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"stator(\.pyz)?: the working folder .*: start Stator in one that exists\n", done.stderr)


def test_unpacks_nothing_that_others_could_write_to(pyz: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, pyz, "--check"], env=os.environ | {"SHIV_ROOT": str(tmp_path)}, check=True, umask=0)
    unpacked = list((tmp_path / cache_name(pyz)).rglob("*"))
    assert unpacked
    assert not [path for path in unpacked if path.stat().st_mode & 0o022]


def test_many_first_starts_at_once_all_work(pyz: Path, tmp_path: Path) -> None:
    env = os.environ | {"SHIV_ROOT": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, pyz, "--check"], env=env, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]


def test_uses_nothing_of_an_unpacking_that_was_cut_short(pyz: Path, tmp_path: Path) -> None:
    half = tmp_path / f"{cache_name(pyz)}.tmp/site-packages/stator"
    half.mkdir(parents=True)
    (half / "__main__.py").write_text("raise RuntimeError('half')")
    assert start(pyz, "--check", SHIV_ROOT=str(tmp_path)).returncode == 0


def another_version(pyz: Path, folder: Path) -> Path:
    """The same archive, as if other things were in it."""
    other = folder / pyz.name
    with ZipFile(pyz) as archive, ZipFile(other, "w") as changed:
        build_id = json.loads(archive.read("environment.json"))["build_id"]
        for name in archive.namelist():
            start_of = name in ("__main__.py", "bootstrap_main.py", "environment.json")
            data = archive.read(name)
            changed.writestr(name, data.replace(build_id.encode(), b"another") if start_of else data)
    return other


def unpacked(root: Path) -> set[str]:
    """Which versions are unpacked there."""
    return {path.name.rpartition("_")[2] for path in root.glob("stator-*/[!.]*")}


def test_the_next_version_removes_what_nothing_runs_from_any_more(
    pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    other = another_version(pyz, tmp_path)
    monkeypatch.setenv("SHIV_ROOT", str(root))
    (root / "of-another-program_1/site-packages").mkdir(parents=True)
    assert start(other, "--check").returncode == 0
    assert unpacked(root) == {"another"}

    assert start(pyz, "--check").returncode == 0
    build_id = cache_name(pyz).rpartition("_")[2]
    assert unpacked(root) == {build_id}
    assert (root / "of-another-program_1/site-packages").exists()


def test_the_next_version_leaves_what_a_service_runs_from(
    pyz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    other = another_version(pyz, tmp_path)
    monkeypatch.setenv("SHIV_ROOT", str(root))
    build_id = cache_name(pyz).rpartition("_")[2]
    with Program({}, tmp_path, command=["python3", str(other)]) as service:
        service.wait_for("ready")
        assert start(pyz, "--check").returncode == 0
        assert unpacked(root) == {"another", build_id}
        assert service.stop() == 0
    assert start(pyz, "--check").returncode == 0
    assert unpacked(root) == {build_id}


def test_a_version_that_is_removed_while_it_starts_unpacks_anew(pyz: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    other = another_version(pyz, tmp_path)
    env = os.environ | {"SHIV_ROOT": str(root)}
    started = [
        subprocess.Popen([sys.executable, each, "--check"], env=env, stdout=subprocess.DEVNULL)
        for each in (pyz, other) * 4
    ]
    assert [process.wait(60) for process in started] == [0] * 8


def test_runs_where_it_was_unpacked_beforehand_and_cannot_write(pyz: Path, tmp_path: Path) -> None:
    assert start(pyz, "--check", SHIV_ROOT=str(tmp_path)).returncode == 0
    bound = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    assert mounted(pyz, bound, SHIV_ROOT=str(tmp_path)).returncode == 0


def started_as(pyz: Path, folder: Path, old: str, new: str) -> subprocess.CompletedProcess[str]:
    """Runs the same start where one word of it is another."""
    for name in ("__main__.py", "bootstrap_main.py"):
        with ZipFile(pyz) as archive:
            (folder / name).write_text(archive.read(name).decode().replace(old, new))
    return subprocess.run([sys.executable, folder], capture_output=True, text=True, check=False)


def test_says_which_pythons_it_is_for(pyz: Path, tmp_path: Path) -> None:
    done = started_as(pyz, tmp_path, "(3, 11)", "(4, 2)")
    assert done.returncode == 1
    version = sys.version.split()[0]
    assert re.fullmatch(rf"stator\.pyz: built for CPython 3.11, .* on .*; this is Python {version}\n", done.stderr)


def test_an_interpreter_of_another_kind_is_told_so_in_a_line(pyz: Path, tmp_path: Path) -> None:
    # As a free-threaded one has it.
    done = started_as(pyz, tmp_path, "_imp.extension_suffixes()[0]", "'.cpython-313t-x86_64-linux-gnu.so'")
    assert done.returncode == 1
    told = r"stator\.pyz: built for CPython 3\.11, .*; this is cpython 3.* \(cpython-313t-x86_64-linux-gnu\)\n"
    assert re.fullmatch(told, done.stderr)
