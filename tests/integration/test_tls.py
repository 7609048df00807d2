"""An agent over HTTPS that accepts only clients whose certificate it trusts."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.clusters import Authority, Certificate, Encrypted
from tests.integration.conftest import States
from tests.integration.programs import eventually
from tests.program import Program as Stator


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    return authority.issue("client")


@pytest.fixture
def consul(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    with Encrypted(tmp_path_factory.mktemp("consul"), authority) as running:
        yield running


@contextmanager
def stator(consul: Encrypted, folder: Path, **tls: object) -> Iterator[Stator]:
    settings = {f"STTR_CLIENT_{name.upper()}": str(value) for name, value in tls.items()}
    env = {"STTR_CLIENT_BASEURI": consul.https_url, "STTR_ROSTER_SERVICE_ID": "1", **settings}
    with Stator(env, folder) as running:
        running.wait_for("ready")
        yield running


def is_listed(consul: Encrypted) -> bool:
    return [each.status for each in consul.health("stator")] == ["passing"]


def test_registers_with_an_authority_and_a_client_certificate(
    consul: Encrypted, authority: Authority, client: Certificate, tmp_path: Path, stated: States
) -> None:
    with stator(consul, tmp_path, cafile=authority.cert, certfile=client.cert, keyfile=client.key) as running:
        stated("from ready to the catalog", lambda: is_listed(consul), within=10)
        running.send(signal.SIGTERM)
        stated("from SIGTERM to the catalog", lambda: not is_listed(consul), within=5)
        assert running.ended() == 0


def test_registers_without_an_authority_where_it_may_skip_to_verify(
    consul: Encrypted, client: Certificate, tmp_path: Path, stated: States
) -> None:
    with stator(consul, tmp_path, skipverify="true", certfile=client.cert, keyfile=client.key):
        stated("from ready to the catalog", lambda: is_listed(consul), within=10)


def test_without_the_authority_it_says_what_is_missing_and_still_serves(
    consul: Encrypted, client: Certificate, tmp_path: Path
) -> None:
    with stator(consul, tmp_path, certfile=client.cert, keyfile=client.key) as running:
        reason = running.wait_for("failed to register, trying again")["reason"]
        assert "CERTIFICATE_VERIFY_FAILED" in reason
        assert "STTR_CLIENT_CAFILE" in reason
        assert running.get("/monitor").status == 200
        assert not is_listed(consul)


def test_without_a_client_certificate_it_says_what_is_missing(
    consul: Encrypted, authority: Authority, tmp_path: Path
) -> None:
    with stator(consul, tmp_path, cafile=authority.cert) as running:
        named = "STTR_CLIENT_CERTFILE"
        # The agent closes the connection after its alert, and the first error may be either.
        eventually(lambda: [each for each in running.lines(level="error") if named in each.get("reason", "")])
        assert not is_listed(consul)


def test_a_wrong_client_certificate_is_replaced_when_its_files_are(
    consul: Encrypted, authority: Authority, client: Certificate, tmp_path: Path, stated: States
) -> None:
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger").issue("client")
    with stator(consul, tmp_path, cafile=authority.cert, certfile=stranger.cert, keyfile=stranger.key) as running:
        eventually(lambda: running.lines(level="error"))
        assert not is_listed(consul)
        # One after the other, so that for a moment they don't match.
        shutil.copy(client.cert, stranger.cert)
        shutil.copy(client.key, stranger.key)
        stated("from the rotation to the catalog", lambda: is_listed(consul), within=5)
