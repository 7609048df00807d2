"""What all tests share."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _built_in_defaults() -> Iterator[None]:
    """No setting of a developer's own shell (etc/dev.sh) reaches what a test starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("STTR_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _heeded_signals() -> None:
    """What a test starts heeds SIGINT and SIGHUP, also where the tests run in the background or under nohup.

    There they are ignored, which a child inherits; a handler, which does nothing either, it does not.
    """
    for each in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, lambda *_: None)


@pytest.fixture(scope="session")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The artifact, built from the sources as they are now; it unpacks into a folder of this session's."""
    subprocess.run([sys.executable, ROOT / "build/pyz.py"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIV_ROOT", str(tmp_path_factory.mktemp("shiv")))
        yield ROOT / "dist/stator.pyz"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject)
    try:
        subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    return cert, key
