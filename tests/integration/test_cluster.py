"""A cluster of three servers with an agent beside the service: servers come and go, the service stays."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.clusters import Cluster, Member
from tests.integration.conftest import States
from tests.integration.programs import eventually
from tests.program import Program as Stator

# Seconds for which the agent has no servers.
ALONE = 10.0
OURS = ["stator-1"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    with ExitStack() as running:
        for member in (*cluster.servers, cluster.agent):
            running.enter_context(member)
        eventually(cluster.formed, 60)
        yield cluster


def stator(cluster: Cluster, folder: Path, id_: str = "1") -> Stator:
    folder.mkdir()
    env = {"STTR_CLIENT_BASEURI": cluster.agent.url, "STTR_ROSTER_SERVICE_ID": id_, "STTR_CONSUL_CHECKINTERVAL": "1s"}
    return Stator(env, folder)


def list_only(members: list[Member], ids: list[str]) -> bool:
    return all(each.passing("stator") == ids for each in members)


def test_the_service_stays_in_every_survivors_catalog_when_the_leader_is_killed(
    cluster: Cluster, tmp_path: Path, stated: States
) -> None:
    with stator(cluster, tmp_path / "stator") as running:
        stated("from the start to three catalogs", lambda: list_only(cluster.servers, OURS), within=20)
        leader = eventually(lambda: cluster.leader(cluster.servers))
        assert leader is not None
        survivors = [each for each in cluster.servers if each is not leader]
        leader.kill()

        def led_again() -> bool:
            assert list_only(survivors, OURS)
            return cluster.leader(survivors) not in (None, leader)

        stated("from the leader's death to a new one", led_again, within=90)
        # The new leader reconciles its catalog, and may drop services.
        until = time.monotonic() + 2
        eventually(lambda: led_again() and time.monotonic() > until, 30)
        assert running.lines(level="error") == []
        running.send(signal.SIGTERM)
        stated("from SIGTERM to the survivors' catalogs", lambda: list_only(survivors, []), within=10)
        assert running.ended() == 0


def test_the_service_is_back_in_every_catalog_as_soon_as_the_servers_are(
    cluster: Cluster, tmp_path: Path, stated: States
) -> None:
    with ExitStack() as running:
        first = running.enter_context(stator(cluster, tmp_path / "first"))
        eventually(lambda: list_only(cluster.servers, OURS))
        for server in cluster.servers:
            server.kill()
        alone_until = time.monotonic() + ALONE
        second = running.enter_context(stator(cluster, tmp_path / "second", "2"))
        second.wait_for("ready")
        eventually(lambda: time.monotonic() > alone_until, ALONE + 5)

        for server in cluster.servers:
            server.start()
        stated(
            "from the servers' return to their catalogs", lambda: list_only(cluster.servers, [*OURS, "stator-2"]), 90
        )
        # The agent beside them was there all the time.
        for each in (first, second):
            assert each.lines(level="error") == []
            assert each.get("/monitor").status == 200
            each.send(signal.SIGTERM)
        stated("from SIGTERM to three catalogs", lambda: list_only(cluster.servers, []), within=10)
        assert [each.ended() for each in (first, second)] == [0, 0]
