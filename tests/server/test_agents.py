"""What the program does with an agent that answers badly: it serves, says so in few lines, and goes on trying."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes import OK, Agent, MisbehavingServer, drips, says
from tests.program import Program, eventually
from tests.server.conftest import Starts

RUBBISH = bytes(range(256)) * 40_000
# A service that is not whole; its length promises more.
CUT_SHORT = OK + b'Content-Length: 521\r\nContent-Type: application/json\r\n\r\n{"ID": "stator-1", "Serv'
SOON = 3.0


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


def roster(program: Program) -> dict[str, float]:
    """The roster's metrics, failures by their reason."""
    families = text_string_to_metric_families(program.get("/metrics?collect[]=roster").body.decode())
    samples = [sample for family in families for sample in family.samples]
    return {sample.labels.get("reason", sample.name.removeprefix("stator_roster_")): sample.value for sample in samples}


def complaints(program: Program) -> int:
    return len([line for line in program.lines() if line["level"] in ("warning", "error")])


def test_all_of_the_rosters_metrics_are_there_from_the_start(starts: Starts) -> None:
    with MisbehavingServer(drips(b"x", every=60)) as silent:
        metrics = roster(starts({"STTR_CLIENT_BASEURI": silent.uri}))
        assert all(value == 0 for name, value in metrics.items() if not name.startswith("stator_"))
        reasons = {"unreachable", "timeout", "denied", "unavailable", "invalid", "address", "file", "unready", "other"}
        assert reasons | {"registered", "last_confirmed_timestamp_seconds"} <= metrics.keys()
        assert {"registrations_total", "recoveries_total"} <= metrics.keys()


def test_without_discovery_there_are_no_such_metrics(starts: Starts) -> None:
    assert b"stator_roster" not in starts().get("/metrics").body


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"No cluster leader", "unavailable"),
        (403, b"Permission denied", "denied"),
        (200, b'{"ID": "stator-1", "Serv', "invalid"),
        (200, b"[]", "invalid"),
        (200, RUBBISH, "invalid"),
    ],
)
def test_an_agent_that_goes_bad_and_recovers_is_lost_and_found(
    starts: Starts, agent: Agent, status: int, body: bytes, reason: str
) -> None:
    program = starts({"STTR_CLIENT_BASEURI": agent.uri, "STTR_ROSTER_INTERVAL": "50ms"})
    program.wait_for("registered")
    agent.status, agent.body = status, body
    eventually(lambda: roster(program)[reason] >= 3)
    assert roster(program)["registered"] == 0
    assert program.get("/monitor").status == 200
    agent.status, agent.body = 200, b""
    program.wait_for("registered again")
    metrics = roster(program)
    assert (metrics["registered"], metrics["registrations_total"], metrics["recoveries_total"]) == (1, 1, 1)
    assert complaints(program) == 1
    assert program.stop(within=SOON) == 0
    assert agent.services == {}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(CUT_SHORT), "unreachable"),
        (says(OK + b"\r\n" + RUBBISH), "invalid"),
        (drips(OK + b"Content-Length: 521\r\n\r\n", every=1), "timeout"),
        (drips(b"{", start=OK + b"Content-Length: 521\r\n\r\n", every=1), "timeout"),
    ],
)
def test_an_agent_that_answers_badly_from_the_start_harms_nothing(starts: Starts, answer: Any, reason: str) -> None:
    env = {"STTR_CLIENT_TIMEOUT": "1s", "STTR_CLIENT_TIMEOUTSHORT": "1s"}
    with MisbehavingServer(answer) as oddity:
        program = starts({"STTR_CLIENT_BASEURI": oddity.uri, **env})
        eventually(lambda: roster(program)[reason] >= 2)
        assert roster(program)["registered"] == 0
        assert program.get("/monitor").status == 200
        # One for each reason: a connection may break in more than one way.
        assert complaints(program) <= 3
        start = time.monotonic()
        assert program.stop(within=5 + SOON) == 0
        assert time.monotonic() - start < 5 + SOON
        assert program.processes() == []


def test_a_file_that_is_deleted_or_altered_is_put_back_within_seconds(starts: Starts, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    program = starts({"STTR_ROSTER_REGISTRAR": "file", "STTR_FILE_PATH": str(path)})
    program.wait_for("registered")
    written = path.read_bytes()
    path.unlink()
    eventually(lambda: path.exists() and path.read_bytes() == written, within=3)
    path.write_bytes(b"[]")
    eventually(lambda: path.read_bytes() == written, within=3)
    eventually(lambda: len(program.lines("registered again")) == 2)
    assert [line["reason"] for line in program.lines("registration lost")] == [
        "the file is gone",
        "the file holds something else",
    ]
    assert json.loads(written)
    assert roster(program)["recoveries_total"] == 2
    assert program.stop(within=SOON) == 0
    assert not path.exists()
