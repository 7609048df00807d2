"""The peers can be used: each starts, answers and stops."""

from __future__ import annotations

import pytest

from tests.integration.conftest import StartsPrometheus, StartsVictoriaMetrics
from tests.integration.programs import Consul, ProgramError, Promtool, Scraper, eventually

GOOD = """\
# HELP wave_sine A sine wave.
# TYPE wave_sine gauge
wave_sine{series="simple"} 0.5
"""


def discovering(consul: Consul, how: str = "") -> str:
    return f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: discovered
    consul_sd_configs: [{{server: "127.0.0.1:{consul.http_port}", services: [scraper]{how}}}]
"""


def test_consul_lists_what_is_registered(consul: Consul) -> None:
    assert consul.services() == {}
    assert consul.checks() == {}

    check = {"TCP": f"127.0.0.1:{consul.http_port}", "Interval": "1s"}
    consul.register({"ID": "one", "Name": "some", "Port": 8087, "Check": check})

    assert {id_: service["Port"] for id_, service in consul.services().items()} == {"one": 8087}
    assert eventually(lambda: consul.checks()["service:one"]["Status"] == "passing")
    assert consul.service("two") is None


def test_a_killed_consul_comes_back_at_the_same_address_and_has_forgotten(consul: Consul) -> None:
    consul.register({"ID": "one", "Name": "some", "Port": 8087})

    consul.kill()
    with pytest.raises(ConnectionError):
        consul.services()

    consul.restart()
    assert consul.services() == {}


def test_prometheus_scrapes_what_consul_lists(consul: Consul, prometheus: StartsPrometheus) -> None:
    assert_scrapes_itself_through(consul, prometheus(discovering(consul, ", refresh_interval: 1s")))


def test_victoria_metrics_scrapes_what_consul_lists(consul: Consul, victoria_metrics: StartsVictoriaMetrics) -> None:
    assert_scrapes_itself_through(consul, victoria_metrics(discovering(consul)))


def assert_scrapes_itself_through(consul: Consul, scraper: Scraper) -> None:
    assert scraper.targets() == []

    consul.register({"ID": "one", "Name": "scraper", "Address": "127.0.0.1", "Port": scraper.http_port})

    (target,) = eventually(scraper.targets)
    assert target["scrapeUrl"] == f"{scraper.url}/metrics"
    (sample,) = eventually(lambda: scraper.query('up{job="discovered"} == 1'))
    assert sample.value == 1
    assert sample.labels["instance"] == f"127.0.0.1:{scraper.http_port}"


def test_what_was_stopped_answers_no_more(prometheus: StartsPrometheus) -> None:
    running = prometheus("")

    running.stop()

    with pytest.raises(ConnectionError):
        running.targets()


def test_a_program_that_refuses_its_configuration_is_heard(consul: Consul, prometheus: StartsPrometheus) -> None:
    with pytest.raises(ProgramError, match="consul_sd_configs"):
        prometheus(discovering(consul), version="2.42")


def test_promtool_accepts_a_good_exposition(promtool: Promtool) -> None:
    assert promtool.check_metrics(GOOD) == (0, "")


def test_promtool_refuses_a_bad_exposition(promtool: Promtool) -> None:
    verdict = promtool.check_metrics(GOOD.replace("0.5", "half"))

    assert verdict.exit_code != 0
    assert "half" in verdict.output
