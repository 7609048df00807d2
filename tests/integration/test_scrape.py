"""Real exporters, scraped by the real program, have the same series there as at the source."""

import re
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import StartsPrometheus
from tests.integration.programs import Consul, Promtool, free_ports, program_path
from tests.integration.programs import Program as Peer
from tests.program import Program, eventually

Labels = frozenset[tuple[str, str]]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PASSWORD, HASH = "s3cret", "$2b$04$DLasPEkAAm7HkI2ke0hFvuehtwas5RvWe74hBfdxHf/yoNyehr64."  # by bcrypt


class NodeExporter(Peer):
    """With its default collectors, and its metrics of itself."""

    def __init__(self, folder: Path, *flags: str) -> None:
        (port,) = free_ports(1)
        path = program_path("node-exporter", "prometheus-node-exporter")
        super().__init__([path, f"--web.listen-address=127.0.0.1:{port}", *flags], port, folder)

    def ready(self) -> bool:
        return bool(self.get("/metrics"))


class SecureNodeExporter(NodeExporter):
    """The same with TLS, for one who knows the password."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path]) -> None:
        (folder / "web.yml").write_text(
            f"tls_server_config: {{cert_file: {certificate[0]}, key_file: {certificate[1]}}}\n"
            f"basic_auth_users: {{prometheus: {HASH}}}\n"
        )
        super().__init__(folder, f"--web.config.file={folder / 'web.yml'}")

    def ready(self) -> bool:
        with socket.create_connection((self.host, self.http_port), 1):
            return True


class App(Peer):
    """An application of prometheus_client's."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        super().__init__([sys.executable, "-m", "tests.integration.exporting", str(port)], port, folder)

    def ready(self) -> bool:
        return bool(self.get("/metrics"))

    def as_openmetrics(self) -> bytes:
        """Gives its metrics in OpenMetrics."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"Accept": OPENMETRICS})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as response:
            body: bytes = response.read()
        return body


class Exposed(NamedTuple):
    """What an exposition has: types and descriptions of families, and values of series."""

    types: dict[str, str]
    descriptions: dict[str, str]
    series: dict[tuple[str, Labels], float]


def text_of(body: bytes) -> Exposed:
    text = body.decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    # Without types, since the reader calls samples of counters as it thinks right.
    lines = "".join(line for line in text.splitlines(keepends=True) if line[0] not in "#\n")
    samples = (sample for family in text_string_to_metric_families(lines) for sample in family.samples)
    return Exposed(
        types,
        dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)),
        {(each.name, labels(each.labels)): each.value for each in samples},
    )


def openmetrics_of(body: bytes) -> Exposed:
    families = list(openmetrics_families(body.decode()))  # type: ignore[no-untyped-call] # it has no types
    return Exposed(
        # A stateset is exposed as a gauge.
        {family.name: f"{family.type} {family.unit}".replace("stateset", "gauge") for family in families},
        {family.name: family.documentation for family in families},
        # In OpenMetrics no times of creation are exposed, in text they are.
        {
            (each.name, labels(each.labels)): each.value
            for family in families
            for each in family.samples
            if not each.name.endswith("_created")
        },
    )


def labels(given: dict[str, str]) -> Labels:
    # Go writes a bound 1, and OpenMetrics wants 1.0: to Prometheus 3 they are one. An empty label is none.
    numbers = ("le", "quantile")
    return frozenset((key, repr(float(each)) if key in numbers else each) for key, each in given.items() if each)


def theirs(exposed: Exposed) -> Exposed:
    """What is exposed of others."""
    return Exposed(
        {name: type_ for name, type_ in exposed.types.items() if not name.startswith("stator_")},
        {name: desc for name, desc in exposed.descriptions.items() if not name.startswith("stator_")},
        {key: value for key, value in exposed.series.items() if not key[0].startswith("stator_")},
    )


def assert_same(source: Exposed, after: Exposed, ours: Exposed) -> None:
    """Asserts that types, names and labels are those of the source, and the values that don't change there."""
    assert ours.types == source.types
    assert {name: desc for name, desc in ours.descriptions.items() if desc} == {
        name: desc for name, desc in source.descriptions.items() if desc
    }
    assert ours.series.keys() == source.series.keys()
    steady = {key for key, value in source.series.items() if repr(value) == repr(after.series.get(key))}
    assert len(steady) > len(source.series) / 3
    differ = {key for key in steady if repr(float(ours.series[key])) != repr(float(source.series[key]))}
    # A counter that is the same before and after never changed. Gauges of the source itself have another value for each
    # connection, and others may have risen and fallen again.
    assert not [name for name, _ in differ if source.types.get(name) == "counter"]
    others = [name for name, _ in differ if not name.startswith(("go_", "process_"))]
    assert len(others) <= 1 + len(steady) / 50, others


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stator").mkdir()
    return tmp_path / "stator"


@pytest.fixture
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with Consul(tmp_path_factory.mktemp("consul"), '-hcl=telemetry { prometheus_retention_time = "1h" }') as running:
        yield running


def stator(folder: Path, *targets: str, **settings: str) -> Program:
    env = {f"STTR_{name}": value for name, value in settings.items()}
    return Program(
        {
            "STTR_COLLECTORS": "scrape",
            "STTR_SCRAPE_TARGETS": ",".join(targets),
            "STTR_METRICS_TIMESTAMPS": "never",
            "STTR_SCRAPE_TIMEOUT": "20s",
            **env,
        },
        folder,
    )


def compare(peer: Peer, path: str, folder: Path) -> None:
    with stator(folder, f"{peer.url}{path}", METRICS_TIMEOUT="30s") as running:

        def read() -> tuple[Exposed, Exposed, Exposed] | None:
            before = text_of(peer.request("GET", path))
            ours = theirs(text_of(running.get("/metrics").body))
            after = text_of(peer.request("GET", path))
            # Its series may be others by now.
            return (before, after, ours) if before.series.keys() == after.series.keys() else None

        found = eventually(read, 30)
        assert found
        assert_same(*found)
        assert not running.lines(level="warning")


def test_node_exporters_series_are_those_of_the_source(tmp_path: Path, folder: Path) -> None:
    with NodeExporter(tmp_path) as peer:
        compare(peer, "/metrics", folder)


def test_consuls_series_are_those_of_the_source(consul: Consul, folder: Path) -> None:
    compare(consul, "/v1/agent/metrics?format=prometheus", folder)


def test_prometheus_clients_series_are_those_of_the_source_in_each_format(tmp_path: Path, folder: Path) -> None:
    with App(tmp_path) as peer, stator(folder, peer.url) as running:
        text_before, openmetrics_before = text_of(peer.get("/metrics")), openmetrics_of(peer.as_openmetrics())
        body = running.get("/metrics", {"Accept": OPENMETRICS}).body
        text = running.get("/metrics").body
        text_after, openmetrics_after = text_of(peer.get("/metrics")), openmetrics_of(peer.as_openmetrics())
    assert_same(text_before, text_after, theirs(text_of(text)))
    assert_same(openmetrics_before, openmetrics_after, theirs(openmetrics_of(body)))
    assert b'jobs_total{queue="mail"} 3.0 # {trace_id="4bf92f35"} 3.0 ' in body


def test_two_programs_of_one_kind_are_told_apart_by_their_names(
    tmp_path: Path, folder: Path, promtool: Promtool
) -> None:
    folders = [tmp_path / name for name in "ab"]
    with ExitStack() as running:
        for each in folders:
            each.mkdir()
        peers = [running.enter_context(App(each)) for each in folders]
        program = running.enter_context(
            stator(folder, *(f"{name}={peer.url}" for name, peer in zip("ab", peers, strict=True)))
        )
        body = program.get("/metrics").body
        source = text_of(peers[0].get("/metrics"))
        assert not program.lines(level="warning")
    ours = theirs(text_of(body))
    assert ours.types == source.types
    assert len(ours.series) == 2 * len(source.series)
    assert ("jobs_total", frozenset({("target", "a"), ("queue", "mail")})) in ours.series
    assert ("shop_depth", frozenset({("target", "b"), ("exported_target", "db")})) in ours.series
    assert promtool.check_metrics(body.decode()).exit_code in (0, 3)


@pytest.mark.parametrize("version", ["2.42", "3"])
def test_prometheus_has_all_of_it_from_one_target(
    tmp_path: Path, folder: Path, prometheus: StartsPrometheus, version: str
) -> None:
    with NodeExporter(tmp_path) as peer, stator(folder, f"node={peer.url}", peer.url) as running:
        jobs = f"""\
global: {{scrape_interval: 1s}}
scrape_configs:
- {{job_name: stator, static_configs: [{{targets: ['127.0.0.1:{running.port}']}}]}}
- {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{peer.http_port}']}}]}}
"""
        server = prometheus(jobs, version)
        names = 'count by (job, target) ({__name__=~"node_.*",job=~".+"})'
        found = eventually(lambda: [each for each in [server.query(names)] if len(each) == 3], 20)[0]
        counts = {(each.labels["job"], each.labels.get("target")): each.value for each in found}
        info = server.query("node_uname_info")
    assert counts["stator", "node"] == counts["stator", None] == counts["node", None]
    assert len({each.labels["nodename"] for each in info}) == 1
    assert len(info) == 3


def test_a_program_that_stops_answering_fails_alone_and_comes_back(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "app").mkdir()
    with NodeExporter(tmp_path) as node, App(tmp_path / "app") as app:
        targets = (f"app={app.url}", f"node={node.url}")
        with stator(folder, *targets, SCRAPE_TIMEOUT="1s", COLLECTORS="scrape,wave") as running:

            def successes() -> dict[str, float]:
                series = text_of(running.get("/metrics").body).series
                assert any(name == "wave_sine" for name, _ in series)
                found = {
                    dict(key)["target"]: value for (name, key), value in series.items() if name.endswith("e_success")
                }
                assert any(name.startswith("node_") for name, _ in series) == bool(found["node"])
                return found

            eventually(lambda: successes() == {"app": 1, "node": 1})
            app.send(signal.SIGSTOP)
            try:
                eventually(lambda: successes() == {"app": 0, "node": 1})
                assert "timed out" in running.wait_for("failed to scrape a target", target="app")["reason"]
            finally:
                app.send(signal.SIGCONT)
            eventually(lambda: successes() == {"app": 1, "node": 1})
            app.kill()
            eventually(lambda: successes() == {"app": 0, "node": 1})
            app.start()
            eventually(lambda: successes() == {"app": 1, "node": 1})


def test_credentials_and_authorities_of_the_file_are_used(
    tmp_path: Path, folder: Path, certificate: tuple[Path, Path]
) -> None:
    file, password = tmp_path / "targets.toml", tmp_path / "password"
    (tmp_path / "ca.pem").symlink_to(certificate[0])
    password.write_text("geheim")
    basic = '[node]\nbasic_auth = {username = "prometheus", password_file = "password"}\n'
    file.write_text(f"{basic}tls_config = {{ca_file = 'ca.pem'}}\n")
    with SecureNodeExporter(tmp_path, certificate) as peer:
        target = f"node=https://127.0.0.1:{peer.http_port}"
        with stator(folder, target, SCRAPE_CONFIGFILE=str(file)) as running:
            key = ("stator_scrape_success", frozenset({("target", "node")}))

            def success() -> float:
                return text_of(running.get("/metrics").body).series[key]

            assert success() == 0
            reason = running.wait_for("failed to scrape a target")["reason"]
            assert reason == "it answered with status 401"
            password.write_text(f"{PASSWORD}\n")
            assert success() == 1
            file.write_text(basic)
            assert success() == 0
            assert "ca_file in STTR_SCRAPE_CONFIGFILE" in running.lines("failed to scrape a target")[-1]["reason"]
            outputs = running.get("/metrics").body.decode(), running.get("/config").body.decode(), running.output
    assert not any(secret in output for output in outputs for secret in ("geheim", PASSWORD))


def test_a_program_that_scrapes_itself_still_answers(folder: Path) -> None:
    (port,) = free_ports(1)
    settings = {"SERVER_PORT": str(port), "METRICS_TIMEOUT": "3s", "COLLECTORS": "scrape,wave"}
    with stator(folder, f"http://127.0.0.1:{port}", **settings) as running:
        running.wait_for("ready")
        body = running.get("/metrics").body
        assert b"\nwave_sine{" in body
        assert b'stator_scrape_success{target="http://127.0.0.1:' in body
        assert running.get("/monitor").status == 200
