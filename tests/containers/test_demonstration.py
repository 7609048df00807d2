"""The compose file's images are built, its services work together, and Stator is a good container."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from stator import __version__
from tests.containers.demonstration import Demonstration
from tests.integration.programs import eventually

SERVICE_ID = "stator-123654"
# Each thread's state, as /proc has it, of all processes that the container has.
STATES = """
from pathlib import Path
for stat in Path("/proc").glob("[0-9]*/stat"):
    print(stat.read_text().rpartition(")")[2].split()[0])
"""
FORMATS = (
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text;version=1.0.0",
    "*/*",
)


def registered(demonstration: Demonstration) -> dict[str, Any] | None:
    """Stator as Consul's agent lists it, if it is there."""
    reply = demonstration.get("consul", "/v1/agent/services")
    return dict(json.loads(reply.body)).get(SERVICE_ID) if reply.status == 200 else None


def is_passing(demonstration: Demonstration) -> bool:
    """Whether Consul's own check of Stator passes."""
    reply = demonstration.get("consul", "/v1/health/checks/stator")
    checks = json.loads(reply.body) if reply.status == 200 else []
    return [check["Status"] for check in checks] == ["passing"]


def ask_prometheus(demonstration: Demonstration, path: str) -> Any:
    return json.loads(demonstration.get("prom", f"/api/v1/{path}").body)["data"]


def log(demonstration: Demonstration) -> list[dict[str, Any]]:
    """All lines of Stator's container, whichever stream they went to."""
    container = demonstration.container("stator")
    text = demonstration.engine.run("sh", "-c", f"docker logs {container} 2>&1")
    return [dict(json.loads(line)) for line in text.splitlines()]


def in_stator(demonstration: Demonstration, *command: str) -> str:
    return demonstration.compose("exec", "--no-TTY", "stator", *command)


def test_every_image_of_the_compose_file_is_built(built: Demonstration) -> None:
    services = yaml.safe_load((built.project / "docker-compose.yaml").read_text())["services"]
    for name in (name for name, service in services.items() if "build" in service):
        assert built.engine.docker("image", "inspect", f"{built.name}-{name}")


def test_the_image_is_labelled_with_the_version_that_it_holds(built: Demonstration) -> None:
    image = f"{built.name}-stator"
    labels = json.loads(built.engine.docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    said = built.engine.docker("run", "--rm", "--network=none", image, "-V")
    assert said.split()[-1] == labels["org.opencontainers.image.version"] == __version__


def test_the_services_get_healthy(demonstration: Demonstration) -> None:
    for service in ("consul", "prom", "stator"):
        assert demonstration.inspect(service)["State"]["Health"]["Status"] == "healthy"


def test_stator_answers_where_it_is_published(demonstration: Demonstration) -> None:
    assert demonstration.get("stator", "/monitor").status == 200
    assert "wave_sine" in demonstration.get("stator", "/metrics").body


def test_consul_reaches_the_address_that_was_registered(demonstration: Demonstration) -> None:
    eventually(lambda: is_passing(demonstration), within=30)
    service = registered(demonstration)
    assert service is not None
    assert (service["Service"], service["Tags"], service["Port"]) == ("stator", ["dev", "metrics"], 8087)


def test_prometheus_scrapes_what_consul_lists(demonstration: Demonstration) -> None:
    def targets() -> list[str]:
        active = ask_prometheus(demonstration, "targets?state=active")["activeTargets"]
        return [each["health"] for each in active if each["labels"].get("instance") == SERVICE_ID]

    eventually(lambda: targets() == ["up"], within=60)
    found = eventually(lambda: ask_prometheus(demonstration, "query?query=wave_sine")["result"], within=30)
    assert {each["metric"]["service"] for each in found} == {"stator"}


def test_prometheus_has_the_shipped_rules(demonstration: Demonstration) -> None:
    assert ask_prometheus(demonstration, "rules")["groups"]


def test_stator_is_not_root_and_can_write_nothing_but_temporary_files(demonstration: Demonstration) -> None:
    status = dict(line.split(":\t") for line in in_stator(demonstration, "cat", "/proc/1/status").splitlines())
    assert set(status["Uid"].split()) == {"10001"}
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == "1"
    with pytest.raises(AssertionError, match="Read-only file system"):
        in_stator(demonstration, "touch", "/var/lib/stator/new")
    in_stator(demonstration, "touch", "/tmp/new")


def test_the_image_holds_the_program_unpacked_and_compiled_as_root_s(demonstration: Demonstration) -> None:
    unpacked = in_stator(demonstration, "find", "/var/lib/stator", "-path", "*/stator/__pycache__/main.*.pyc")
    assert len(unpacked.splitlines()) == 1
    assert in_stator(demonstration, "find", "/var/lib/stator", "!", "-user", "root", "-o", "-perm", "/o+w") == ""


def test_the_first_process_reaps_orphans(demonstration: Demonstration) -> None:
    in_stator(demonstration, "sh", "-c", "for i in 1 2 3; do (sleep 0.2 & ) ; done")
    eventually(lambda: "sleep" not in demonstration.engine.docker("top", demonstration.container("stator")))
    eventually(lambda: "Z" not in in_stator(demonstration, "python3", "-c", STATES).split())


def test_consul_that_has_forgotten_everything_gets_the_service_again(demonstration: Demonstration) -> None:
    eventually(lambda: registered(demonstration))
    demonstration.compose("up", "--detach", "--force-recreate", "--no-deps", "--wait", "consul")
    eventually(lambda: is_passing(demonstration), within=60)
    assert [line["level"] for line in log(demonstration) if line["msg"] == "registered again"] == ["info"]


def test_a_stop_unregisters_before_the_server_refuses(demonstration: Demonstration) -> None:
    eventually(lambda: is_passing(demonstration), within=30)
    address, container = demonstration.address("stator"), demonstration.container("stator")
    seen = []
    begin = time.monotonic()
    stop = subprocess.Popen(
        demonstration.engine.command("docker", "stop", container), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    while stop.poll() is None:
        refused = demonstration.engine.get(address, "/monitor").status == 0
        seen.append((refused, registered(demonstration) is not None))
    assert (True, True) not in seen
    assert seen[-1] == (True, False)
    state = demonstration.inspect("stator")["State"]
    assert (stop.wait(), state["ExitCode"], state["OOMKilled"]) == (0, 0, False)
    assert time.monotonic() - begin < 30


def test_all_that_it_logs_is_json_from_the_first_line_to_the_last(demonstration: Demonstration) -> None:
    eventually(lambda: registered(demonstration))
    demonstration.compose("stop", "stator")
    lines = log(demonstration)
    assert (lines[0]["msg"], lines[-1]["msg"]) == ("starting up", "stopped")


def test_after_a_kill_it_comes_back_under_the_same_id(demonstration: Demonstration) -> None:
    eventually(lambda: registered(demonstration))
    demonstration.engine.docker("kill", demonstration.container("stator"))
    assert demonstration.inspect("stator")["State"]["ExitCode"] == 137
    # Nothing could tell Consul, whose check finds out within a minute.
    assert registered(demonstration)
    demonstration.up()
    eventually(lambda: is_passing(demonstration), within=30)


def test_it_serves_with_64_megabytes(
    demonstration: Demonstration, record_property: Callable[[str, object], None]
) -> None:
    engine = demonstration.engine
    limits = ("--memory=64m", "--memory-swap=64m", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL")
    settings = (f"--env-file={demonstration.project / 'etc/stator.env'}", "--env=STTR_ROSTER_SERVICE_ID=small")
    place = (f"--network={demonstration.name}_labneh", "--publish=127.0.0.1::8087")
    image = f"{demonstration.name}-stator"
    container = engine.docker("run", "--detach", *limits, *settings, *place, image).strip()
    try:
        address = engine.docker("port", container, "8087").splitlines()[0]
        eventually(lambda: engine.get(address, "/monitor").status == 200, within=30)
        processes = engine.docker("top", container, "-o", "pid").split()
        for _ in range(20):
            for accept in FORMATS:
                assert engine.get(address, "/metrics", {"Accept": accept}).status == 200
        health = ("exec", container, "python3", "/healthcheck.py")
        engine.docker(*health)
        assert engine.docker("top", container, "-o", "pid").split() == processes
        (about,) = json.loads(engine.docker("inspect", container))
        assert not about["State"]["OOMKilled"]
        record_property("memory", engine.docker("stats", "--no-stream", "--format={{.MemUsage}}", container).strip())
    finally:
        engine.docker("rm", "--force", container)


def test_the_development_container_runs_the_tests_but_those_of_containers(built: Demonstration) -> None:
    def dev(*command: str) -> str:
        return built.compose("run", "--rm", "--no-TTY", "dev", *command, within=480)

    dev("make", ".venv/.dev")
    dev(".venv/bin/python", "tests/integration/fetch.py", "consul")
    some = ("settings", "log", "build/test_plugins.py", "integration/test_registration.py", "containers")
    printed = dev(".venv/bin/python", "-m", "pytest", "-n", "2", "--dist=loadfile", *(f"tests/{each}" for each in some))
    assert "only root can start one" in printed
    assert re.search(r"\d{3} passed", printed)
