"""The files around the program are what the programs that read them take, and agree with each other."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from stator.config import Config
from stator.exporter import Exporter, ScrapeRequest
from stator.instrumentation.requests import WEBSOCKETS
from stator.log.writer import Sink
from stator.points import CollectorContext
from stator.processes.service import ServiceProcesses
from stator.settings.environment import read_env_file

ROOT = Path(__file__).resolve().parents[2]
ETC = ROOT / "etc"
DASHBOARDS = sorted((ETC / "grafana").glob("*.json"))
SETTINGS = {
    "STTR_SERVER_PORT": "8087",
    "STTR_LOGGER_MAXLEN": "999",
    "STTR_CLIENT_BASEURI": "http://consul:8500",
    "STTR_ROSTER_SERVICE_ID": "123654",
    "STTR_ROSTER_SERVICE_NAME": "stator",
    "STTR_ROSTER_SERVICE_TAGS": "dev,metrics",
}


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def exposed() -> set[str]:
    """The names of all samples that Stator exposes when nothing is configured."""
    config = Config()
    log = config.logger.build(Sink(1), terminal=False)
    scrape = Exporter(
        config.collectors.build(CollectorContext("stator", "run", ServiceProcesses(), log)), config.metrics, (), log
    ).scrape(ScrapeRequest(config.formats().encoder_for("")))
    families = text_string_to_metric_families(scrape.body.decode())
    # Those of a wrapped application's requests are not among them.
    return {sample.name for family in families for sample in family.samples} | {WEBSOCKETS}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = load(ROOT / "docker-compose.yaml")["services"]
    return services


@pytest.fixture(scope="module")
def unit() -> ConfigParser:
    # Not strict, since a setting may add to what an earlier line of the same name has.
    parser = ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names keep their case
    parser.read_string((ETC / "stator.service").read_text())
    return parser


def test_compose_file_follows_the_compose_specification() -> None:
    validate = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")
    run(*validate, "docker-compose.yaml")


def test_compose_publishes_each_service_on_its_usual_port(services: dict[str, dict[str, Any]]) -> None:
    ports = {name: service.get("ports", []) for name, service in services.items()}
    assert ports == {
        "consul": ["8500:8500"],
        "prom": ["9090:9090"],
        "graf": ["3000:3000"],
        "stator": ["8087:8087"],
        "dev": [],
    }


def test_compose_puts_all_services_on_one_network(services: dict[str, dict[str, Any]]) -> None:
    assert {tuple(service["networks"]) for service in services.values()} == {("labneh",)}


def test_compose_pins_every_image(services: dict[str, dict[str, Any]]) -> None:
    images = [service["image"] for service in services.values() if "image" in service]
    assert images
    assert all(image.rpartition(":")[2][0].isdigit() for image in images)


def test_compose_names_only_files_that_are_here(services: dict[str, dict[str, Any]]) -> None:
    builds = [service["build"]["dockerfile"] for service in services.values() if "build" in service]
    volumes = [volume for service in services.values() for volume in service.get("volumes", [])]
    mounts = [volume.partition(":")[0] for volume in volumes if volume.startswith(".")]
    env_files = [service["env_file"] for service in services.values() if "env_file" in service]
    missing = [name for name in builds + mounts + env_files if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["stator", "prom", "dev"])
def test_dockerfile_passes_the_linter(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    assert run(hadolint, "--no-color", ETC / f"{name}.Dockerfile") == ""


@pytest.mark.parametrize("name", ["stator", "prom", "dev"])
def test_dockerfile_copies_only_files_that_are_here(name: str) -> None:
    lines = (ETC / f"{name}.Dockerfile").read_text().splitlines()
    copies = [shlex.split(line)[1:-1] for line in lines if line.startswith("COPY ") and "--from=" not in line]
    sources = [word for copy in copies for word in copy if not word.startswith("--")]
    assert all((ROOT / source).exists() for source in sources)


def test_image_builds_leave_out_only_what_git_ignores() -> None:
    # What is tracked may be asked for by any step of the build, now or later.
    assert _patterns(ROOT / ".dockerignore") <= _patterns(ROOT / ".gitignore")


def test_prometheus_finds_services_tagged_metrics_in_consul() -> None:
    config = load(ETC / "prometheus.yml")
    assert config["global"] == {"scrape_interval": "15s"}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["prometheus"]["static_configs"] == [{"targets": ["localhost:9090"]}]
    assert jobs["api_services"]["consul_sd_configs"] == [{"server": "consul:8500", "tags": ["metrics"]}]


def test_rules_and_dashboards_ask_only_for_metrics_of_stator_that_are_exposed() -> None:
    asked = "".join(path.read_text() for path in (ETC / "rules.yml", *DASHBOARDS))
    names = set(re.findall(r"\b(?:du|pyrt|stator|wave)_\w+", asked))
    assert names
    assert names <= exposed()


def test_every_alert_says_how_bad_it_is_and_what_is_wrong() -> None:
    rules = [rule for group in load(ETC / "rules.yml")["groups"] for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_grafana_draws_from_the_data_source_it_is_given(path: Path) -> None:
    (source,) = load(ETC / "grafana" / "datasources.yml")["datasources"]
    dashboard = json.loads(path.read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    assert {variable["datasource"]["uid"] for variable in dashboard["templating"]["list"]} == {source["uid"]}


def test_grafana_looks_for_dashboards_where_compose_mounts_them(services: dict[str, dict[str, Any]]) -> None:
    (provider,) = load(ETC / "grafana" / "dashboards.yml")["providers"]
    mounts = dict(mount.split(":")[:2] for mount in services["graf"]["volumes"])
    for each in DASHBOARDS:
        assert Path(mounts[f"./etc/grafana/{each.name}"]).parent == Path(provider["options"]["path"])


def as_docker_reads(text: str) -> dict[str, str]:
    """By `docker run --env-file`: all after "=" as it stands; only a line that begins with "#" is a comment."""
    lines = (line.lstrip() for line in text.split("\n"))
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def as_compose_reads(text: str) -> dict[str, str]:
    """By Compose's env_file: quotes and comments removed, $NAME replaced by what is not set here."""
    raw = as_docker_reads(text)
    plain = {name.removeprefix("export "): re.sub(r"\s+#.*", "", value).strip() for name, value in raw.items()}
    return {name: re.sub(r"\$\{?\w+\}?", "", _unquoted(value)) for name, value in plain.items()}


def as_systemd_reads(text: str) -> dict[str, str]:
    """By systemd's EnvironmentFile=: quotes removed, ";" begins a comment too, and none stands after a value."""
    joined = re.sub(r"\\\n", "", text)
    lines = "\n".join(line for line in joined.split("\n") if not line.lstrip().startswith(";"))
    return {name: _unquoted(value.strip()) for name, value in as_docker_reads(lines).items()}


def as_shell_reads(text: str) -> dict[str, str]:
    return {name: " ".join(shlex.split(value)) for name, value in as_docker_reads(text).items()}


def as_stator_reads(_text: str) -> dict[str, str]:
    return read_env_file(str(ETC / "stator.env"))


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


@pytest.mark.parametrize("read", [as_docker_reads, as_compose_reads, as_systemd_reads, as_shell_reads, as_stator_reads])
def test_container_environment_means_the_same_to_all_that_read_it(read: Callable[[str], dict[str, str]]) -> None:
    assert read((ETC / "stator.env").read_text()) == SETTINGS


def test_no_shipped_setting_means_something_else_elsewhere() -> None:
    texts = [(ETC / "stator.env").read_text(), (ETC / "dev.sh").read_text().replace("export ", "")]
    for value in (value for text in texts for value in as_docker_reads(text).values()):
        assert not re.search(r"""["'#$\\;`]|\s""", value), value


def test_container_environment_is_exactly_the_six_settings() -> None:
    lines = (ETC / "stator.env").read_text().splitlines()
    settings = [line.split("=", 1) for line in lines if not line.startswith("#")]
    assert settings == [list(setting) for setting in SETTINGS.items()]


def test_container_environment_is_one_that_stator_takes() -> None:
    assert run(sys.executable, "-m", "stator", "--env-file", ETC / "stator.env", "--check") == ""


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_developers_environment_points_at_consul_on_this_machine(shell: str) -> None:
    path = {"PATH": os.environ["PATH"]}
    before = run(shell, "-c", "env", env=path).splitlines()
    after = run(shell, "-eu", "-c", ". etc/dev.sh; env", env=path).splitlines()
    added = dict(line.split("=", 1) for line in after if line not in before)
    assert added == {**SETTINGS, "STTR_CLIENT_BASEURI": "http://localhost:8500"}


def test_systemd_runs_the_artifact_with_its_settings_and_a_place_to_unpack(unit: ConfigParser) -> None:
    service = unit["Service"]
    assert service["ExecStart"] == "/usr/bin/python3 /opt/stator/stator.pyz"
    assert service["EnvironmentFile"] == "-/etc/stator.env"
    assert service["Environment"] == f"SHIV_ROOT=%C/{service['CacheDirectory']}"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_systemd_starts_it_again_unless_a_setting_is_wrong(unit: ConfigParser) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"] == "2"


def test_systemd_lets_the_main_process_stop_the_others(unit: ConfigParser) -> None:
    assert unit["Service"]["KillMode"] == "mixed"
    assert unit["Service"]["TimeoutStopSec"] == "60s"


def test_systemd_waits_until_it_is_ready_and_watches_it(unit: ConfigParser) -> None:
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert service["WatchdogSec"] == "60s"
    assert service["WatchdogSignal"] == "SIGTERM"


def test_systemd_limits_its_files_and_its_memory(unit: ConfigParser) -> None:
    assert unit["Service"]["LimitNOFILE"] == "65536"
    assert unit["Service"]["MemoryMax"] == "256M"


def test_systemd_gives_it_no_more_rights_than_it_needs(unit: ConfigParser) -> None:
    service = unit["Service"]
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["ProtectSystem"] == "strict"


def test_every_file_begins_with_what_it_is_for() -> None:
    files = [path for path in ETC.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert files
    assert [path.name for path in files if not path.read_text().startswith("# ")] == []


def _patterns(path: Path) -> set[str]:
    """An ignore file's patterns, bare of what only says where, and for what kind of file, each counts."""
    lines = path.read_text().splitlines()
    return {line.removeprefix("**/").strip("/") for line in lines if line and not line.startswith("#")}
