"""Health that we report to a real agent, which does not check it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import States
from tests.integration.programs import Consul, eventually
from tests.program import Program as Stator
from tests.program import stand_still

ID = "service:stator-1:ttl"


def stator(consul: Consul, folder: Path, **more: str) -> Stator:
    often = {"STTR_CONSUL_CHECKINTERVAL": "300ms", "STTR_CONSUL_CHECKTIMEOUT": "700ms"}
    env = {"STTR_CLIENT_BASEURI": consul.url, "STTR_ROSTER_SERVICE_ID": "1", "STTR_CONSUL_CHECK": "ttl"}
    return Stator(env | often | more, folder)


def check(consul: Consul) -> dict[str, Any]:
    return consul.checks().get(ID, {"Status": "missing", "Output": ""})


def is_(consul: Consul, status: str) -> bool:
    return bool(check(consul)["Status"] == status)


def test_reports_what_monitor_answers_at_once_and_periodically(consul: Consul, tmp_path: Path, stated: States) -> None:
    with stator(consul, tmp_path, STTR_CONSUL_CHECKINTERVAL="1h") as running:
        stated("from ready to a first report", lambda: check(consul)["Output"], within=10)
        assert (check(consul)["Status"], check(consul)["Type"]) == ("passing", "ttl")
        assert '200: {"status":"ok"}' in check(consul)["Output"]
        running.wait_for("reported health")
        assert {line["level"] for line in running.lines("reported health")} == {"info"}
        assert running.stop() == 0
        assert check(consul)["Status"] == "missing"


def test_a_service_that_hangs_is_critical_until_it_goes_on(consul: Consul, tmp_path: Path, stated: States) -> None:
    with stator(consul, tmp_path) as running:
        eventually(lambda: is_(consul, "passing"))
        server = [each.pid for each in (running.arbiter, *running.workers)]
        for pid in server:
            stand_still(pid)
        stated("from hanging to critical", lambda: is_(consul, "critical"), within=10)
        eventually(lambda: "timed out" in check(consul)["Output"].lower())
        for pid in server:
            os.kill(pid, signal.SIGCONT)
        stated("from going on to passing", lambda: is_(consul, "passing"), within=10)
        # A report is logged after the agent has answered, so a moment later than the agent has it.
        eventually(lambda: len(running.lines("reported health")) > 2)
        lines = running.lines("reported health")
        assert [(line["level"], line["passing"]) for line in lines] == [
            ("info", True),
            ("warning", False),
            ("info", True),
        ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_service_that_stops_reporting_is_critical(
    consul: Consul, tmp_path: Path, number: signal.Signals, stated: States
) -> None:
    with stator(consul, tmp_path) as running:
        eventually(lambda: check(consul)["Output"])
        running.send(number)
        stated("from the last report to critical", lambda: is_(consul, "critical"), within=15)
        assert "TTL expired" in check(consul)["Output"]


def test_health_is_reported_as_soon_as_an_agent_that_restarted_has_us_back(
    consul: Consul, tmp_path: Path, stated: States
) -> None:
    with stator(consul, tmp_path, STTR_CONSUL_CHECKINTERVAL="1h", STTR_ROSTER_INTERVAL="1s") as running:
        eventually(lambda: check(consul)["Output"])
        consul.kill()
        consul.restart()
        stated("from the agent's being ready again to a report", lambda: check(consul)["Output"], within=10)
        assert check(consul)["Status"] == "passing"
        assert running.get("/monitor").status == 200


def test_headers_of_checks_are_sent_to_ourselves_too(consul: Consul, tmp_path: Path) -> None:
    more = {"STTR_CONSUL_CHECKHEADERS": "X-Probe,hunter2", "STTR_LOGGER_LEVEL": "debug"}
    with stator(consul, tmp_path, STTR_CLIENT_REDACTHEADERS="X-Probe", **more) as running:
        eventually(lambda: check(consul)["Output"])
        asked = eventually(lambda: [line for line in running.lines("received request") if "X-Probe" in line["headers"]])
        assert asked[0]["path"] == "/monitor"
        assert "hunter2" not in running.output
