"""An agent that denies by default: the permissions to register there, and what a refusal reports."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.clusters import Guarded, Token
from tests.integration.conftest import States
from tests.integration.programs import eventually
from tests.program import Program as Stator
from tests.program import stand_still

# The policy that docs/consul.md gives.
OWN_SERVICE = 'service "stator" { policy = "write" }'
UNKNOWN = "00000000-0000-4000-8000-000000000000"
PASSING = [("stator-1", "passing")]


@pytest.fixture
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Guarded(tmp_path_factory.mktemp("consul")) as running:
        yield running


@contextmanager
def stator(consul: Guarded, folder: Path, **more: str) -> Iterator[Stator]:
    env = {"STTR_CLIENT_BASEURI": consul.url, "STTR_ROSTER_SERVICE_ID": "1", **more}
    with Stator(env, folder) as running:
        running.wait_for("ready")
        yield running


def listed(consul: Guarded) -> list[tuple[str, str]]:
    return [(each.service_id, each.status) for each in consul.health("stator")]


def rotate(file: Path, token: Token) -> None:
    """Replaces a token's file as Vault's agent or Kubernetes do: all at once."""
    new = file.with_suffix(".new")
    new.write_text(f"{token.secret}\n")
    new.replace(file)


@pytest.mark.parametrize("check", ["http", "ttl"])
def test_the_permission_to_write_its_own_service_is_all_that_it_needs(
    consul: Guarded, tmp_path: Path, check: str, stated: States
) -> None:
    token = consul.grant(OWN_SERVICE)
    env = {"STTR_CONSUL_TOKEN": token.secret, "STTR_CONSUL_CHECK": check, "STTR_CONSUL_CHECKINTERVAL": "1s"}
    with stator(consul, tmp_path, **env) as running:
        stated("from ready to the catalog", lambda: listed(consul) == PASSING, within=10)
        eventually(lambda: [each for each in consul.checks().values() if "200" in each["Output"]])
        running.send(signal.SIGTERM)
        stated("from SIGTERM to the catalog", lambda: listed(consul) == [], within=5)
        assert running.ended() == 0
        assert running.lines(level="error") == []
        assert token.secret not in running.output


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", 'the token lacks service:write on "stator"'),
        ('service "stator" { policy = "read" }', 'the token lacks service:write on "stator"'),
        ('service "other" { policy = "write" }', 'the token lacks service:write on "stator"'),
    ],
)
def test_a_token_without_the_permission_is_reported_with_what_it_lacks(
    consul: Guarded, tmp_path: Path, rules: str, expected: str
) -> None:
    assert_refused(consul, tmp_path, consul.grant(rules).secret, expected)


def test_an_unknown_token_is_reported(consul: Guarded, tmp_path: Path) -> None:
    assert_refused(consul, tmp_path, UNKNOWN, "Consul has no such token as STTR_CONSUL_TOKEN")


def test_a_missing_token_is_reported(consul: Guarded, tmp_path: Path) -> None:
    assert_refused(
        consul, tmp_path, "", 'STTR_CONSUL_TOKEN is not set, and the anonymous token lacks service:write on "stator"'
    )


def assert_refused(consul: Guarded, folder: Path, token: str, expected: str) -> None:
    with stator(consul, folder, STTR_CONSUL_TOKEN=token) as running:
        line = eventually(lambda: running.lines(level="error"))[0]
        assert line["reason"].startswith(expected)
        assert "was answered with status 403" in line["reason"]
        assert running.get("/monitor").status == 200
        assert listed(consul) == []
        assert not token or token not in running.output


def test_a_wrong_token_is_replaced_when_its_file_is(consul: Guarded, tmp_path: Path, stated: States) -> None:
    file = tmp_path / "token"
    file.write_text(UNKNOWN)
    with stator(consul, tmp_path, STTR_CONSUL_TOKEN_FILE=str(file)) as running:
        eventually(lambda: running.lines(level="error"))
        right = consul.grant(OWN_SERVICE)
        rotate(file, right)
        stated("from the rotation to the catalog", lambda: listed(consul) == PASSING, within=5)
        assert right.secret not in running.output


def test_the_catalog_keeps_our_health_up_to_date_after_the_first_token_was_revoked(
    consul: Guarded, tmp_path: Path, stated: States
) -> None:
    first, second = consul.grant(OWN_SERVICE), consul.grant(OWN_SERVICE)
    file = tmp_path / "token"
    file.write_text(first.secret)
    # The agent passes a service on to the servers with the token that registered it.
    env = {"STTR_CONSUL_CHECKINTERVAL": "500ms", "STTR_CONSUL_CHECKTIMEOUT": "500ms", "STTR_ROSTER_INTERVAL": "1s"}
    with stator(consul, tmp_path, STTR_CONSUL_TOKEN_FILE=str(file), **env) as running:
        eventually(lambda: listed(consul) == PASSING)
        running.wait_for("registered")
        rotate(file, second)
        stated("from the rotation to the registration with it", lambda: running.lines("registered again"), within=10)
        consul.revoke(first)

        server = [each.pid for each in (running.arbiter, *running.workers)]
        for pid in server:
            stand_still(pid)
        failing = [("stator-1", "critical")]
        stated("from hanging to the catalog", lambda: listed(consul) == failing, within=20)
        for pid in server:
            os.kill(pid, signal.SIGCONT)
        stated("from going on to the catalog", lambda: listed(consul) == PASSING, within=20)
        assert running.stop() == 0
        eventually(lambda: listed(consul) == [])
