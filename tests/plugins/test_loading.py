"""Classes of the user's own: out of modules."""

import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from stator.plugins.discovery import load_plugins
from stator.plugins.loading import load_class
from stator.settings.declare import StartError

MODULE = """\
from stator.points import Point, PointsAt

class Load:
    def collect(self, now):
        return PointsAt("load", now, points=[Point("one", "Load of one minute", 0.5)])

class Lazy:
    pass

class Picky:
    def __init__(self, colour):
        pass
    def collect(self, now):
        pass

class Broken(Load):
    def __init__(self):
        raise OSError("no sensor")

class Leaving(Load):
    def __init__(self):
        raise SystemExit(3)

load = Load()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working folder with a module; what is imported is forgotten afterwards."""
    (tmp_path / "of_the_user.py").write_text(MODULE)
    modules, path = set(sys.modules), list(sys.path)
    with chdir(tmp_path):
        yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def make(spec: str) -> Any:
    """A collector by its name.

    Raises:
        StartError: It can't be found or made.
    """
    plugins = load_plugins("collector", [spec], "", "STTR", ())
    if plugins.failures:
        raise StartError(*plugins.failures)
    return plugins.found[spec].build()


def reason(spec: str) -> str:
    with pytest.raises(StartError) as error:
        make(spec)
    return str(error.value)


def test_a_class_of_the_working_folder_collects() -> None:
    points_at = make("of_the_user:Load").collect(1.5)
    assert (points_at.name, points_at.stamp, points_at.points[0].value) == ("load", 1.5, 0.5)


def test_a_class_in_a_package_collects(folder: Path) -> None:
    (folder / "package_of_the_user").mkdir()
    (folder / "package_of_the_user" / "inner.py").write_text(MODULE)
    assert make("package_of_the_user.inner:Load").collect(0.0).name == "load"


def test_the_working_folder_hides_nothing_that_is_installed(folder: Path) -> None:
    (folder / "psutil.py").write_text(MODULE)
    assert reason("psutil:Load") == "psutil:Load can't be found: psutil has no class 'Load'"
    assert sys.path[-1] == str(folder)


def test_loading_twice_searches_the_working_folder_once(folder: Path) -> None:
    load_class("of_the_user:Load", "collector")
    load_class("of_the_user:Load", "collector")
    assert sys.path.count(str(folder)) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere:Load", "nowhere:Load can't be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (":Load", ":Load can't be imported: ValueError: Empty module name"),
        ("of_the_user:Nothing", "of_the_user:Nothing can't be found: of_the_user has no class 'Nothing'"),
        ("of_the_user:", "of_the_user: can't be found: of_the_user has no class ''"),
        ("of_the_user:load", "of_the_user:load can't be found: of_the_user has no class 'load'"),
        ("of_the_user:Lazy", "of_the_user:Lazy is no collector: it has no method collect(now)"),
        ("of_the_user:Broken", "of_the_user:Broken can't be made: OSError: no sensor (of_the_user.py, line 18)"),
        ("of_the_user:Leaving", "of_the_user:Leaving can't be made: SystemExit: 3 (of_the_user.py, line 22)"),
    ],
)
def test_a_class_that_can_not_be_a_collector_is_named_with_the_reason(spec: str, message: str) -> None:
    assert reason(spec) == message


def test_a_constructor_that_takes_arguments_is_refused() -> None:
    assert "can't be made: TypeError: " in reason("of_the_user:Picky")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("raise SystemExit('a script')", "SystemExit: a script"),
        ("def", "SyntaxError: "),
    ],
)
def test_a_module_that_fails_to_import_is_named(folder: Path, code: str, cause: str) -> None:
    (folder / "failing.py").write_text(code)
    assert reason("failing:Load").startswith(f"failing:Load can't be imported: {cause}")


def test_a_working_folder_that_is_gone_is_not_searched(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    with chdir(gone):
        gone.rmdir()
        assert "No module named 'nowhere'" in reason("nowhere:Load")
        # chdir has to find a way back.
        gone.mkdir()
