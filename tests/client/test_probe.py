"""Whether a service answers."""

from pathlib import Path

import pytest

from stator.client.probe import is_ready
from tests.fakes import Agent
from tests.integration.programs import free_ports


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False), (302, False)])
def test_only_200_is_an_answer(status: int, *, ready: bool) -> None:
    with Agent(status) as service:
        assert is_ready(f"{service.uri}/deep/monitor?a=b") is ready
    assert service.requests[0].path == "/deep/monitor?a=b"


def test_over_https_any_certificate_will_do(certificate: tuple[Path, Path]) -> None:
    with Agent(tls=certificate) as service:
        assert is_ready(f"{service.uri}/monitor")


def test_where_nobody_listens_nothing_is_ready() -> None:
    assert not is_ready(f"http://127.0.0.1:{free_ports(1)[0]}/monitor")
