"""The manifest for Kubernetes: valid, careful with rights, and true of the program that it runs."""

import json
import random
import signal
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from stator.settings.duration import Duration
from tests.etc.test_files import ETC, run
from tests.program import Program, eventually

MANIFEST = ETC / "kubernetes.yaml"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# Kubernetes' own of the last years, of which the oldest still has many users.
VERSIONS = ("1.30", "1.37")

Object = dict[str, Any]


@pytest.fixture(scope="module")
def objects() -> dict[str, Object]:
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text())}


@pytest.fixture(scope="module")
def pod(objects: dict[str, Object]) -> Object:
    template: Object = objects["Deployment"]["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def container(pod: Object) -> Object:
    (container,) = pod["spec"]["containers"]
    return dict(container)


@pytest.fixture(scope="module")
def settings(container: Object) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


class Pod:
    """The program as a pod runs it, on an address of its own, so that its port is free."""

    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        self._host = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        self.program = Program({**settings, "STTR_SERVER_HOST": self._host}, folder)

    def get(self, port: int, path: str) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        connection = HTTPConnection(self._host, port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture
def running(settings: dict[str, str], tmp_path: Path) -> Iterator[Pod]:
    pod = Pod(settings, tmp_path)
    with pod.program:
        pod.program.wait_for("ready")
        yield pod


def http_gets(container: Object) -> dict[str, tuple[int, str]]:
    """Port and path of each probe."""
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    gets = {name: container[name]["httpGet"] for name in PROBES}
    return {name: (ports[get["port"]], get["path"]) for name, get in gets.items()}


@pytest.mark.parametrize("version", VERSIONS)
def test_it_follows_the_published_schemas(version: str) -> None:
    output = run(sys.executable, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version, MANIFEST)
    assert output.count(" passed for resource ") == 2


def test_its_environment_is_one_that_the_program_takes(settings: dict[str, str]) -> None:
    assert run(sys.executable, "-m", "stator", "--check", env=settings) == ""


def test_the_probes_ask_for_what_the_program_answers(running: Pod, container: Object) -> None:
    gets = http_gets(container)
    assert {name: path for name, (_, path) in gets.items()} == {
        "startupProbe": "/monitor/ready",
        "readinessProbe": "/monitor/ready",
        "livenessProbe": "/monitor/live",
    }
    assert {name: running.get(*get)[0] for name, get in gets.items()} == dict.fromkeys(PROBES, 200)


def test_prometheus_is_sent_to_where_the_metrics_are(running: Pod, pod: Object) -> None:
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    status, body = running.get(int(annotations["prometheus.io/port"]), annotations["prometheus.io/path"])
    assert status == 200
    assert b"wave_sine" in body


def test_a_pod_that_stops_is_live_and_not_ready_until_its_drain_is_over(
    running: Pod, container: Object, pod: Object
) -> None:
    gets = http_gets(container)
    running.program.send(signal.SIGTERM)
    eventually(lambda: running.get(*gets["readinessProbe"])[0] == 503)
    assert running.get(*gets["livenessProbe"])[0] == 200
    assert running.program.ended(pod["spec"]["terminationGracePeriodSeconds"]) == 0


def test_a_pod_may_take_as_long_as_its_stop_can(running: Pod, container: Object, pod: Object) -> None:
    port, _ = http_gets(container)["livenessProbe"]
    config = json.loads(running.get(port, "/config")[1])["config"]
    longest = Duration.parse(config["roster"]["drain"]).seconds + Duration.parse(config["server"]["timeout"]).seconds
    assert pod["spec"]["terminationGracePeriodSeconds"] > longest + 5


def test_it_registers_nowhere_and_says_so(running: Pod) -> None:
    assert running.program.wait_for("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)")


def test_the_service_leads_to_the_pods(objects: dict[str, Object], pod: Object, container: Object) -> None:
    service = objects["Service"]["spec"]
    labels = pod["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert [port["targetPort"] for port in service["ports"]] == [port["name"] for port in container["ports"]]


def test_it_has_no_more_rights_than_it_needs(pod: Object, container: Object) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["runAsUser"] > 0
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["spec"]["automountServiceAccountToken"] is False


def test_its_resources_are_limited(container: Object) -> None:
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
