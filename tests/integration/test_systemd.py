"""The systemd unit: as systemd's own checks see it, and as the systemd of a machine runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.build.test_install import UNIT as INSTALLED_UNIT
from tests.build.test_install import make
from tests.conftest import ROOT
from tests.credentials import USERS, basic, write_private
from tests.integration.fetch import inside
from tests.integration.machine import Machine, systemd_root
from tests.integration.programs import Consul, eventually, free_ports
from tests.program import stand_still

UNIT = ROOT / "etc/stator.service"
SERVICE_ID = "stator-1"


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs systemd-analyze to its end; units that are installed are those of its own package."""
    return subprocess.run(
        [*inside(systemd_root(), "systemd-analyze"), *words],
        env={**os.environ, "SYSTEMD_UNIT_PATH": str(systemd_root() / "usr/lib/systemd/system")},
        capture_output=True,
        text=True,
        check=False,
    )


def exposure() -> float:
    """The unit's exposure, from 0 to 10."""
    done = analyze("security", "--offline=yes", UNIT)
    (level,) = re.findall(r"Overall exposure level for stator.service: ([0-9.]+)", done.stdout)
    return float(level)


@pytest.fixture
def machine(pyz: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine on which the service is installed, and not started."""
    assert pyz.exists()
    with Machine(tmp_path) as machine:
        make("install", machine.root)
        machine.systemctl("daemon-reload")
        yield machine


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def configure(machine: Machine, port: int, settings: Mapping[str, str] | None = None, unit: str = "") -> None:
    """Writes the service's settings, and more lines of the unit's section [Service]."""
    own = {"STTR_SERVER_HOST": "127.0.0.1", "STTR_SERVER_PORT": str(port), "STTR_ROSTER_SERVICE_ID": "1"}
    lines = [f"{name}={value}\n" for name, value in {**own, **(settings or {})}.items()]
    (machine.root / "etc/stator.env").write_text("".join(lines))
    drop_in = machine.root / "etc/systemd/system/stator.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(f"[Service]\n{unit}\n")
    machine.systemctl("daemon-reload")


def get(port: int, path: str = "/monitor", headers: Mapping[str, str] | None = None) -> bytes:
    """The body of the service's answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("check", ["verify", "security"])
def test_systemds_own_checks_have_nothing_to_say_of_the_unit(check: str, tmp_path: Path) -> None:
    # Where its programs are is checked by starting them.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/bin/python3 ", f"{inside(systemd_root(), 'true')[0]} "))
    options = {"verify": ["--recursive-errors=no"], "security": ["--offline=yes", "--threshold=17"]}
    done = analyze(check, *options[check], copy)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "" or check == "security"


def test_the_checks_see_a_mistake(tmp_path: Path) -> None:
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace("WatchdogSec=60s", "WatchdogSec=60x"))
    done = analyze("verify", "--recursive-errors=no", tmp_path / UNIT.name)
    assert "WatchdogSec" in done.stderr


def test_the_page_tells_the_units_exposure() -> None:
    page = (ROOT / "docs/running.md").read_text()
    assert f"exposure level of {exposure()}" in re.sub(r"\s+", " ", page)
    assert exposure() <= 1.7


def test_systemd_starts_it_and_sees_the_state_of_its_registration(machine: Machine, consul: Consul, port: int) -> None:
    configure(machine, port, {"STTR_CLIENT_BASEURI": consul.url})
    verified = machine.run("systemd-analyze", "verify", "--recursive-errors=no", f"/{INSTALLED_UNIT}")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")

    machine.systemctl("enable", "--now", "stator")
    assert get(port) == b'{"status":"ok"}'
    eventually(lambda: machine.properties("StatusText") == {"StatusText": f"registered as {SERVICE_ID}"})
    assert consul.service(SERVICE_ID)
    assert machine.properties("ActiveState", "SubState", "NotifyAccess", "LimitNOFILE", "MemoryMax") == {
        "ActiveState": "active",
        "SubState": "running",
        "NotifyAccess": "main",
        "LimitNOFILE": "65536",
        "MemoryMax": str(256 * 1024 * 1024),
    }
    assert {process.uids().real for process in machine.processes()} & {0} == set()

    consul.kill()
    eventually(lambda: machine.properties("StatusText")["StatusText"].startswith("not registered: "))
    consul.start()
    eventually(lambda: machine.properties("StatusText") == {"StatusText": f"registered as {SERVICE_ID}"})

    machine.systemctl("reload", "stator")
    eventually(lambda: "read files again: none has changed" in machine.journal())

    machine.systemctl("stop", "stator")
    assert consul.service(SERVICE_ID) is None
    assert machine.properties("ActiveState", "Result", "ExecMainStatus") == {
        "ActiveState": "inactive",
        "Result": "success",
        "ExecMainStatus": "0",
    }
    lines = [json.loads(line) for line in machine.journal().splitlines() if line.startswith("{")]
    assert [line["msg"] for line in lines if line["msg"] in ("ready", "unregistered", "stopped")] == [
        "ready",
        "unregistered",
        "stopped",
    ]


def test_it_has_started_without_consul(machine: Machine, port: int) -> None:
    configure(machine, port, {"STTR_CLIENT_BASEURI": "http://127.0.0.1:1"})
    machine.systemctl("start", "stator")
    assert get(port) == b'{"status":"ok"}'
    eventually(lambda: machine.properties("StatusText")["StatusText"].startswith("not registered: "))


def test_it_reads_files_of_a_group_of_theirs(machine: Machine, port: int) -> None:
    page = (ROOT / "docs/security.md").read_text()
    (lines,) = re.findall(r"```ini\n\[Service\]\n(.*?)```", page, re.DOTALL)
    with (machine.root / "etc/group").open("a") as groups:
        groups.write("stator-files:x:998:\n")
    users = write_private(machine.root / "etc/stator-users", USERS)
    configure(machine, port, {"STTR_SERVER_USERSFILE": "/etc/stator-users"}, unit=lines)
    assert machine.run("systemctl", "start", "stator").returncode == 1  # it can't read them yet
    os.chown(users, 0, 998)
    users.chmod(0o640)
    machine.systemctl("start", "stator")
    assert b"stator_build_info" in get(port, "/metrics", basic())
    assert get(port, "/metrics") == b'{"error":"unauthorized"}'


def test_every_built_in_collector_works_in_its_sandbox(machine: Machine, port: int) -> None:
    configure(machine, port, {"STTR_COLLECTORS": "runtime,process,diskusage,wave,host", "STTR_SERVER_WORKERS": "2"})
    machine.systemctl("start", "stator")
    exposed = get(port, "/metrics").decode()
    assert "process_cpu_seconds_total" in exposed
    assert "node_cpu_seconds_total" in exposed
    assert [line for line in machine.journal().splitlines() if '"level":"error"' in line] == []


def test_the_watchdog_stops_a_service_that_hangs_in_order_and_starts_it_again(
    machine: Machine, consul: Consul, port: int
) -> None:
    settings = {"STTR_CLIENT_BASEURI": consul.url, "STTR_SERVER_TIMEOUT": "1s"}
    configure(machine, port, settings, unit="WatchdogSec=3s\nRestartSec=1s")
    machine.systemctl("start", "stator")
    eventually(lambda: consul.service(SERVICE_ID))
    (_main, _arbiter, worker) = machine.processes()
    stand_still(worker.pid)
    eventually(lambda: machine.properties("Result") == {"Result": "watchdog"})
    eventually(lambda: consul.service(SERVICE_ID) is None)
    eventually(lambda: machine.properties("NRestarts", "SubState") == {"NRestarts": "1", "SubState": "running"})
    assert get(port) == b'{"status":"ok"}'
    eventually(lambda: consul.service(SERVICE_ID))


def test_a_wrong_setting_is_not_tried_again(machine: Machine, port: int) -> None:
    configure(machine, port, {"STTR_SERVER_WORKERS": "many"})
    assert machine.run("systemctl", "start", "stator").returncode == 1
    assert machine.properties("ActiveState", "ExecMainStatus", "NRestarts") == {
        "ActiveState": "failed",
        "ExecMainStatus": "2",
        "NRestarts": "0",
    }
    assert "STTR_SERVER_WORKERS='many'" in machine.journal()
