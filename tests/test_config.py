"""The root Config chooses collectors, the registrar and the formats."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stator.collectors.diskusage import DiskUsage
from stator.config import Config, Environment
from stator.log.logger import Log, LoggerConfig
from stator.log.writer import Sink
from stator.points import CollectorContext, Point, PointsAt
from stator.processes.service import ServiceProcesses
from stator.roster.consul.registrar import Consul
from stator.roster.file_sd import File
from stator.settings.declare import ConfigError
from tests.exposition.exposing import written


def configured(**variables: str) -> Config:
    return Environment.of("STTR", {f"STTR_{name}": value for name, value in variables.items()}).decode()


def collectors(config: Config, log: Log) -> dict[str, Any]:
    return config.collectors.build(CollectorContext("stator", "I90Ltn4", ServiceProcesses(), log))


@pytest.fixture
def log() -> Iterator[Log]:
    with Path(os.devnull).open("wb") as nowhere:
        yield LoggerConfig().build(Sink(nowhere.fileno()), terminal=False)


def test_the_usual_collectors_run_where_no_others_are_named(log: Log) -> None:
    assert [each.collect(0.0).name for each in collectors(Config(), log).values()] == ["pyrt", "du", "wave"]


def test_collectors_run_in_the_order_in_which_they_are_named(log: Log) -> None:
    assert list(collectors(configured(COLLECTORS="wave,diskusage"), log)) == ["wave", "diskusage"]


def test_the_host_is_collected_where_it_is_named(log: Log) -> None:
    host = collectors(configured(COLLECTORS="host", HOST_COLLECTORS="loadavg"), log)["host"]
    assert {point.name for point in host.collect(0.0).points} >= {"load1", "load5", "load15"}


def test_no_collector_needs_to_run(log: Log) -> None:
    assert collectors(configured(COLLECTORS=""), log) == {}


def test_a_collector_gets_its_settings(log: Log) -> None:
    config = configured(COLLECTORS="diskusage", DISKUSAGE_PATHS="/tmp")
    assert collectors(config, log) == {"diskusage": DiskUsage(("/tmp",))}


def test_a_collector_of_the_users_own_has_its_whole_name(log: Log) -> None:
    mine = collectors(configured(COLLECTORS="tests.test_config:Mine"), log)
    assert mine["tests.test_config:Mine"].collect(1.5) == PointsAt("mine", 1.5)


class Mine:
    """A user's own collector."""

    def collect(self, now: float) -> PointsAt:
        return PointsAt("mine", now)


def test_all_collectors_that_can_not_run_are_named_in_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        configured(COLLECTORS="wave,sun,moon,nowhere:Stars")
    (line,) = error.value.problems
    assert line == (
        "STTR_COLLECTORS='wave,sun,moon,nowhere:Stars': expected names out of runtime, diskusage, wave, process, host,"
        " textfile, prometheus_client, scrape, or module:Class; there is no 'sun'; there is no 'moon';"
        " nowhere:Stars can't be imported: ModuleNotFoundError: No module named 'nowhere'"
    )


@pytest.mark.parametrize("paths", ["metrics", "/metrics*", "/*/ready", "/a,b", "*", "/a/**"])
def test_a_quiet_path_that_is_no_path_is_refused_in_one_line(paths: str) -> None:
    with pytest.raises(ConfigError) as error:
        configured(LOGGER_QUIETPATHS=paths)
    (line,) = error.value.problems
    assert line == f"STTR_LOGGER_QUIETPATHS={paths!r}: expected paths such as /metrics, or /monitor/* for all below one"


@pytest.mark.parametrize("paths", ["/metrics", "/metrics, /monitor/*", "/*", "/", ""])
def test_quiet_paths_are_paths_and_what_is_below_them(paths: str) -> None:
    assert configured(LOGGER_QUIETPATHS=paths).logger.quiet_paths == tuple(paths.split(", ") if paths else ())


def test_nothing_is_registered_without_a_discovery_service(log: Log) -> None:
    assert Config().registrar(log) is None


@pytest.mark.parametrize("registrar", ["auto", "consul"])
def test_consul_registers_where_a_base_uri_is_set(log: Log, registrar: str) -> None:
    config = configured(CLIENT_BASEURI="http://localhost:8500", ROSTER_REGISTRAR=registrar)
    assert isinstance(config.registrar(log), Consul)


def test_none_registers_nowhere_whatever_is_set(log: Log) -> None:
    assert configured(CLIENT_BASEURI="http://localhost:8500", ROSTER_REGISTRAR="none").registrar(log) is None


def test_the_file_registrar_writes_to_its_path(log: Log, tmp_path: Path) -> None:
    file = tmp_path / "stator.json"
    assert configured(FILE_PATH=str(file), ROSTER_REGISTRAR="file").registrar(log) == File(file)


def test_a_registrar_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        configured(ROSTER_REGISTRAR="moon")
    (line,) = error.value.problems
    assert line == (
        "STTR_ROSTER_REGISTRAR='moon': expected one of auto, consul, file, none, or an installed registrar;"
        " there is no 'moon'"
    )


@pytest.mark.parametrize(
    ("timestamps", "accept", "line"),
    [
        ("auto", "text/plain", "a_b 1 1500"),
        ("auto", "text/plain;version=1.0.0", "a_b 1"),
        ("always", "text/plain;version=1.0.0", "a_b 1 1500"),
        ("never", "text/plain", "a_b 1"),
    ],
)
def test_timestamps_are_written_as_configured(timestamps: str, accept: str, line: str) -> None:
    formatter = configured(METRICS_TIMESTAMPS=timestamps).formats().encoder_for(accept)
    body = written(formatter, PointsAt("a", 1.5, points=[Point("b", "", 1)]))
    assert body.splitlines()[-1] == line
