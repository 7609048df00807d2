"""A probe says whether a service answers."""

from pathlib import Path

import pytest

from stator.client.probe import is_ready
from tests.fakes import Agent
from tests.integration.programs import free_ports
from tests.program import Program, eventually


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (302, False)])
def test_only_status_200_is_ready(status: int, *, ready: bool) -> None:
    with Agent(status) as service:
        assert is_ready(f"{service.uri}/deep/monitor?a=b") is ready
    assert service.requests[0].path == "/deep/monitor?a=b"


def test_over_https_any_certificate_is_accepted(certificate: tuple[Path, Path]) -> None:
    with Agent(tls=certificate) as service:
        assert is_ready(f"{service.uri}/monitor")


def test_without_a_listener_it_is_not_ready() -> None:
    assert not is_ready(f"http://127.0.0.1:{free_ports(1)[0]}/monitor")


def test_our_own_probes_are_logged_at_debug(tmp_path: Path) -> None:
    with Program({"STTR_LOGGER_LEVEL": "debug"}, tmp_path) as running:
        running.wait_for("ready")
        running.get("/monitor")
        running.get("/monitor", {"User-Agent": "stator"})
        messages = ("received request", "sending response")
        lines = eventually(lambda: running.lines(path="/monitor", level="info")[1:]) and running.lines()
    probes = {line["request_id"] for line in lines if "stator-probe" in line.get("headers", "")}
    levels = [(line["request_id"] in probes, line["level"]) for line in lines if line["msg"] in messages]
    assert set(levels) == {(True, "debug"), (False, "info")}
