"""The whole of it, with the real programs: Consul lists us, Prometheus and VictoriaMetrics find and scrape us."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import StartsPrometheus, StartsVictoriaMetrics
from tests.integration.programs import Consul, Program, Promtool, Scraper, eventually, free_ports

ETC = Path(__file__).parents[2] / "etc"
# The name is the original's, and stays; promtool would rather have a ratio.
KNOWN_LINT = 'du_used_percent use base unit "ratio" instead of "percent"'


class Stator(Program):
    """The .pyz, told by an env file like the one in etc/ where Consul is."""

    def __init__(self, pyz: Path, consul: Consul, folder: Path, **more: str) -> None:
        (port,) = free_ports(1)
        env = (ETC / "stator.env").read_text().replace("8087", str(port)).replace("http://consul:8500", consul.url)
        env_file = folder / "stator.env"
        env_file.write_text(env + "".join(f"{name}={value}\n" for name, value in more.items()))
        super().__init__([sys.executable, pyz, "--env-file", env_file], port, folder)

    def ready(self) -> bool:
        return self.get("/monitor") == b'{"status":"ok"}'

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int | None:
        return self._process.poll()


class World(NamedTuple):
    """Everything of one test."""

    consul: Consul
    stator: Stator


@pytest.fixture
def world(consul: Consul, pyz: Path, tmp_path: Path) -> Iterator[World]:
    with Stator(pyz, consul, tmp_path, STTR_ROSTER_DRAIN="1s") as stator:
        yield World(consul, stator)


def scrape_config(consul: Consul) -> str:
    """The configuration of etc/, but for addresses and interval."""
    config = (ETC / "prometheus.yml").read_text()
    return config.replace("consul:8500", f"127.0.0.1:{consul.http_port}").replace("15s", "1s")


def test_consul_lists_the_service_as_passing_within_three_seconds(consul: Consul, pyz: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    with Stator(pyz, consul, tmp_path) as stator:
        service = eventually(lambda: consul.service("stator-123654"))
        check = consul.checks()["service:stator-123654"]
    assert time.monotonic() - begin < 3
    assert service is not None
    assert (service["Service"], service["Tags"], service["Port"]) == ("stator", ["dev", "metrics"], stator.http_port)
    assert (check["Status"], check["Type"]) == ("passing", "http")


@pytest.mark.parametrize("scraper", ["prometheus", "victoria_metrics"])
def test_a_scraper_finds_the_service_through_consul(
    world: World, scraper: str, prometheus: StartsPrometheus, victoria_metrics: StartsVictoriaMetrics
) -> None:
    # What is not there when Prometheus looks is seen after its refresh interval: 30 seconds.
    eventually(lambda: world.consul.service("stator-123654"))
    start = prometheus if scraper == "prometheus" else victoria_metrics
    running: Scraper = start(scrape_config(world.consul))
    up = eventually(lambda: [each for each in running.query('up{job="api_services"}') if each.value == 1])
    assert [each.labels["instance"] for each in up] == ["stator-123654"]
    waves = eventually(lambda: running.query("wave_sine"))
    assert {each.labels["name"] for each in waves} == {"simple", "three_random", "square"}
    (used,) = running.query("du_used_percent")
    assert used.value == pytest.approx(df_used_percent("/"), abs=1)
    assert len(running.query('{__name__=~"pyrt_.*"}')) > 10


def test_consul_forgets_the_service_before_it_stops_answering(world: World) -> None:
    eventually(lambda: world.consul.service("stator-123654"))
    world.stator.terminate()
    eventually(lambda: world.consul.service("stator-123654") is None)
    assert world.stator.get("/monitor/live") == b'{"status":"ok"}'
    assert eventually(lambda: world.stator.ended() is not None)
    assert world.stator.ended() == 0


def test_a_scrape_has_no_error_for_promtool_and_reads_back(world: World, promtool: Promtool) -> None:
    exposition = world.stator.get("/metrics").decode()
    verdict = promtool.check_metrics(exposition)
    assert [line for line in verdict.output.splitlines() if line.strip() != KNOWN_LINT] == []
    families = list(text_string_to_metric_families(exposition))
    read = {(each.name, tuple(each.labels.items()), each.value) for family in families for each in family.samples}
    written = [line for line in exposition.splitlines() if line and not line.startswith("#")]
    assert len(read) == len(written)
    assert ("stator_collector_success", (("collector", "wave"),), 1.0) in read


def df_used_percent(path: str) -> float:
    shown = subprocess.run(["df", "--output=pcent", path], capture_output=True, text=True, check=True).stdout
    return float(shown.splitlines()[1].strip().removesuffix("%"))
