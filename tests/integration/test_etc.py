"""Prometheus and VictoriaMetrics take what etc/ holds for them, and its rules do what they are for."""

import os
import re
import shutil
from pathlib import Path

from tests.etc.test_files import ETC, ROOT, run
from tests.integration.programs import Promtool, program_path


def test_promtool_takes_the_rules(promtool: Promtool) -> None:
    run(promtool.path, "check", "rules", ETC / "rules.yml")


def test_rules_raise_the_alerts_they_should_and_no_others(promtool: Promtool) -> None:
    run(promtool.path, "test", "rules", ROOT / "tests" / "etc" / "rules_test.yml")


def test_prometheus_takes_the_configuration_and_rules_that_its_image_gets(tmp_path: Path) -> None:
    # The newer promtools are built without Consul discovery.
    promtool = program_path("prometheus-2.24", "promtool")
    for name in ("prometheus.yml", "rules.yml"):
        shutil.copy(ETC / name, tmp_path)
    dockerfile = (ETC / "prom.Dockerfile").read_text()
    (step,) = re.findall(r"^RUN ((?:.*\\\n)*.*)", dockerfile, re.MULTILINE)
    path = {"PATH": f"{promtool.parent}:{os.environ['PATH']}"}
    run("sh", "-c", step.replace("/etc/prometheus", str(tmp_path)), env=path)
    assert "rules.yml" in (tmp_path / "prometheus.yml").read_text()


def test_victoria_metrics_takes_the_configuration_as_it_is() -> None:
    run(program_path("victoria-metrics"), f"-promscrape.config={ETC / 'prometheus.yml'}", "-dryRun")
