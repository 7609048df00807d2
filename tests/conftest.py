"""What all tests share."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pythons
from tests.certificates import Authority

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache/pyz"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests have recorded, the times that they took note of, and which CPythons were not there."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties if report.when == "call" else ():
            terminalreporter.write_line(f"{report.location[2]}: {name} {value}")
    if missing := [version for version in pythons.VERSIONS if version not in pythons.found()]:
        terminalreporter.write_line(f"not tested, since it is not on this machine: CPython {', '.join(missing)}")


@pytest.fixture(scope="session", autouse=True)
def _built_in_defaults() -> Iterator[None]:
    """No setting of a developer's own shell (etc/dev.sh) reaches what a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STTR_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _heeded_signals() -> None:
    """What a test starts heeds SIGINT, SIGQUIT and SIGHUP, also where the tests run in the background or under nohup.

    There they are ignored, which a child inherits; a handler, which does nothing either, it does not.
    """
    for each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, lambda *_: None)


@pytest.fixture(autouse=True)
def _same_signals() -> Iterator[None]:
    """No test blocks a signal for good: what later tests start would inherit that, and not end when asked to."""
    yield
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    assert not blocked


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artifact, built from the sources as they are now; it unpacks into a folder of this session's."""
    _build("pyz.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIV_ROOT", str(tmp_path_factory.mktemp("shiv")))
        yield ROOT / "dist/stator.pyz"


@pytest.fixture(scope="session")
def release() -> Path:
    """The artifact for all platforms, built from the sources as they are now, beside what is published with it."""
    folder = ROOT / ".cache/release"
    _build("release.py", str(folder))
    return folder / "stator.pyz"


def _build(recipe: str, *arguments: str) -> None:
    """Builds an artifact, once where several processes share a run of the tests."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{recipe}-built-for").open("a+") as stamp:
        fcntl.flock(stamp, fcntl.LOCK_EX)
        stamp.seek(0)
        if run and stamp.read() == run:
            return
        subprocess.run([sys.executable, ROOT / "build" / recipe, *arguments], check=True)
        stamp.truncate(0)
        stamp.write(run)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority whose certificates are trusted."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another, which nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, in a file with that of its authority, and its key."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    issued = authority.issue("127.0.0.1")
    issued.cert.write_bytes(issued.cert.read_bytes() + authority.cert.read_bytes())
    return issued
