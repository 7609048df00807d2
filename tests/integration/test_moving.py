"""docs/moving.md says what is true: its commands run, and what its tables name is there before and after."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stator.collectors.host.config import GROUPS
from tests.conftest import ROOT
from tests.embedding.applications import Command, gunicorn, uvicorn
from tests.embedding.conftest import Served
from tests.integration.programs import (
    Consul,
    NodeExporter,
    Prometheus,
    eventually,
    free_ports,
    node_exporter,
    program_path,
)
from tests.program import MODULE, Program
from tests.settings.test_table import ORIGINAL

PAGE = (ROOT / "docs/moving.md").read_text("utf-8")
# What the Go program ran with when its answers were taken down.
GIVEN = {
    "STTR_LOGGER_MAXLEN": "999",
    "STTR_ROSTER_SERVICE_ID": "123654",
    "STTR_ROSTER_SERVICE_NAME": "stator",
    "STTR_ROSTER_SERVICE_TAGS": "dev,metrics",
    "STTR_ROSTER_SERVICE_IPADDRESS": "127.0.0.1",
}
# What it sent to Consul then, but for its port.
SENT = {
    "ID": "stator-123654",
    "Name": "stator",
    "Tags": ["dev", "metrics"],
    "Address": "127.0.0.1",
    "Port": 8087,
    "Check": {
        "Status": "passing",
        "HTTP": "http://127.0.0.1:8087/monitor",
        "Interval": "1m0s",
        "Timeout": "10s",
        "DeregisterCriticalServiceAfter": "30m0s",
    },
}


def section(heading: str) -> str:
    """A section of the page, without its parts where these have headings."""
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, heading
    return found[1]


def table(heading: str, *columns: str) -> list[list[str]]:
    """The rows of a section's table with these columns."""
    head = re.escape("|" + "".join(f" {name} |" if name else " |" for name in columns))
    found = re.search(rf"^{head}\n\|[ |-]+\|\n((?:\|.*\n)+)", section(heading), re.MULTILINE)
    assert found, columns
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]


def quoted(cell: str) -> list[str]:
    """What a cell has as code."""
    return re.findall("`(.*?)`", cell)


def names_in(text: str) -> set[str]:
    """The names of all samples and families of a scrape."""
    families = list(text_string_to_metric_families(text))
    return {family.name for family in families} | {sample.name for each in families for sample in each.samples}


def shell(heading: str, nth: int) -> list[str]:
    """The commands of a section's block of shell, one of them a line of its own."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section(heading), re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+# .*", "", line) for line in blocks[nth].replace("\\\n", "").splitlines()]


def variables(command: str) -> dict[str, str]:
    """What a line of shell sets for the program that it starts."""
    *assignments, python, archive = shlex.split(command)
    assert (python, archive) == ("python3", "stator.pyz")
    return dict(each.split("=", 1) for each in assignments)


# From the Go program


def test_the_go_programs_environment_is_right_as_it_is(tmp_path: Path) -> None:
    given = {name: value for name, value in ORIGINAL.items() if value} | GIVEN
    (tmp_path / "stator.env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    check, run = shell("From the Go program", 0)
    assert check == run.replace("stator.pyz", "stator.pyz --check")
    command = [*MODULE, *shlex.split(check)[2:]]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_what_the_go_program_answered_logged_and_registered_is_there(tmp_path: Path) -> None:
    with ExitStack() as running:
        consul = running.enter_context(Consul(subfolder(tmp_path, "consul")))
        stator = running.enter_context(
            Program({**GIVEN, "STTR_CLIENT_BASEURI": consul.url}, subfolder(tmp_path, "stator"))
        )
        assert eventually(lambda: consul.service("stator-123654"))
        sent = stator.lines("sending request", path="/v1/agent/service/register")[0]["body"]
        assert str(sent).replace(str(stator.port), "8087") == json.dumps(SENT, separators=(",", ":"))
        assert list(consul.checks()) == ["service:stator-123654"]
        assert (stator.get("/monitor").status, stator.get("/monitor").body) == (200, b'{"status":"ok"}')
        assert (stator.get("/nope").status, stator.get("/nope").body) == (404, b'{"not":"found"}')
        configuration = json.loads(stator.get("/config").body)["config"]
        names = names_in(stator.get("/metrics").body.decode())
        assert stator.stop() == 0
        assert consul.service("stator-123654") is None

    for _, now in table("From the Go program", "in `/config` before", "now"):
        inner = configuration
        for key in quoted(now)[0].split("."):
            inner = inner[key]
    rows = table("From the Go program", "before", "now")
    expected = {name for _, now in rows for name in quoted(now)}
    assert expected
    assert expected <= names
    assert names >= {"du_size_bytes", "du_available_bytes", "du_used_percent", "wave_sine"}
    assert not any(name.startswith("gort_") for name in names)

    messages = {line["msg"] for line in stator.lines()}
    same, *others = table("From the Go program", "message in the log before", "now")
    assert (
        set(quoted(same[0])) | {name for row in others for name in quoted(row[1])} - {"address", "logger"} <= messages
    )
    assert not {name for row in others for name in quoted(row[0])} & messages
    for line in stator.lines("received request"):
        assert {"ts", "level", "app_id", "run_id", "worker_id", "request_id", "remote_ip", "remote_port"} <= line.keys()
    assert all(line["elapsed"] > 1000 for line in stator.lines("sending response") if line["status"] == 404)
    assert [line["address"] for line in stator.lines("ready")] == [f"127.0.0.1:{stator.port}"]


# From node_exporter


def refused(flags: Iterable[str]) -> list[str]:
    """Those of some flags that node_exporter does not know."""
    program = program_path("node-exporter", "prometheus-node-exporter")
    runs = ((flag, subprocess.run([program, flag, "--version"], capture_output=True, check=False)) for flag in flags)
    return [flag for flag, done in runs if b"unknown long flag" in done.stderr]


def test_every_flag_that_is_replaced_is_one_of_node_exporter() -> None:
    rows = table("From node_exporter", "flag of node_exporter", "in its place")
    flags = [flag for before, _ in rows for flag in quoted(before)]
    assert len(flags) > 15
    assert refused([*flags, "--collector.none"]) == ["--collector.none"]


def test_every_collector_that_is_missing_is_one_of_node_exporter_and_none_of_ours() -> None:
    rows = dict(table("From node_exporter", "", "which"))
    missing = quoted(rows["not there, among others"])
    assert refused(f"--collector.{name}" for name in missing) == []
    assert not {*missing} & {*GROUPS}


def test_the_host_and_the_files_of_other_programs_are_exposed_on_node_exporters_port(tmp_path: Path) -> None:
    (tmp_path / "backup.prom").write_text("backup_last_success_seconds 1\n")
    (command,) = shell("From node_exporter", 0)
    given = variables(command)
    assert given["STTR_SERVER_PORT"] == "9100"
    (port,) = free_ports(1)
    env = {**given, "STTR_SERVER_PORT": str(port), "STTR_TEXTFILE_PATHS": str(tmp_path)}
    with Program(env, subfolder(tmp_path, "stator")) as stator:
        stator.wait_for("ready")
        names = names_in(stator.get("/metrics").body.decode())
        assert names >= {"node_load1", "node_memory_MemTotal_bytes", "backup_last_success_seconds"}
        assert names >= {"node_textfile_mtime_seconds", "stator_build_info"}
        assert not [name for name in names if name.startswith(("go_", "promhttp_", "process_"))]
        assert stator.get("/metrics?collect[]=host").status == 200
        assert stator.get("/metrics?collect[]=cpu").status == 400


def test_what_is_missing_comes_from_a_node_exporter_behind_it(tmp_path: Path) -> None:
    peer, command = shell("From node_exporter", 1)
    program, *its_flags = shlex.split(peer)
    assert program == "prometheus-node-exporter"
    chosen = [flag.partition(".")[2] for flag in its_flags if flag.startswith("--collector.") and "disable" not in flag]
    plain = {re.sub(r":\d+$", "", str(word)) for word in node_exporter(chosen, 9101)[1:]}
    assert {re.sub(r":\d+$", "", flag) for flag in its_flags} == plain
    with NodeExporter(chosen, subfolder(tmp_path, "peer")) as exporter:
        env = variables(command)
        assert env["STTR_SCRAPE_TARGETS"] == "http://127.0.0.1:9101/metrics"
        env |= {"STTR_SCRAPE_TARGETS": f"{exporter.url}/metrics", "STTR_SERVER_PORT": str(free_ports(1)[0])}
        with Program(env, subfolder(tmp_path, "stator")) as stator:
            stator.wait_for("ready")
            text = stator.get("/metrics").body.decode()
            assert stator.lines("failed to collect") == []
    names = names_in(text)
    assert {"node_load1", "node_arp_entries", "node_softnet_processed_total"} <= names
    groups = re.findall(r'^node_scrape_collector_success\{collector="(\w+)"\} 1', text, re.MULTILINE)
    assert {*chosen, "cpu"} <= set(groups)


# From an instrumentator


ROUTES = {
    "fastapi": """


@app.get("/items/{number}")
def item(number: int):
    return {"number": number}


@app.get("/raises")
def raises():
    raise LookupError("no such shelf")
""",
    "flask": """


@app.get("/items/<number>")
def item(number):
    return number


@app.get("/raises")
def raises():
    raise LookupError("no such shelf")
""",
}
SERVERS: dict[str, tuple[str, Command]] = {
    "prometheus-fastapi-instrumentator": ("fastapi", uvicorn()),
    "starlette_exporter": ("fastapi", uvicorn()),
    "prometheus_flask_exporter": ("flask", gunicorn()),
}
SCRAPING = """
global: {scrape_interval: 500ms}
scrape_configs:
- job_name: shop
  static_configs:
  - targets: ["127.0.0.1:%d"]
"""


@pytest.mark.parametrize("when", ["Before", "After"])
@pytest.mark.parametrize("library", SERVERS)
def test_each_question_has_an_answer_before_and_after(library: str, when: str, tmp_path: Path) -> None:
    (code,) = re.findall(rf"^```python\n(# {when}: .*?)^```", section(library), re.DOTALL | re.MULTILINE)
    framework, command = SERVERS[library]
    with ExitStack() as running:
        shop = running.enter_context(Served(code + ROUTES[framework], command, subfolder(tmp_path, "shop")))
        eventually(partial(is_serving, shop))
        config = SCRAPING % shop.port
        prometheus = running.enter_context(Prometheus("3", config, subfolder(tmp_path, "prometheus")))
        answers = {query: eventually(partial(asked, shop, prometheus, query)) for query in queries(library, when)}
    assert len(answers) >= 3
    by_route = next(labels for query, labels in answers.items() if query.startswith("sum by"))
    route = "/items/<number>" if framework == "flask" else "/items/{number}"
    if (library, when) == ("prometheus_flask_exporter", "Before"):  # as the page says
        route = "/items/1"
    assert route in {value for labels in by_route for value in labels.values()}


def is_serving(shop: Served) -> bool:
    """Whether the application answers."""
    try:
        return shop.get("/items/1").status == 200
    except OSError:
        return False


def asked(shop: Served, prometheus: Prometheus, query: str) -> list[dict[str, str]]:
    """The labels of an answer's series, if there is one that is a number, while the application has some requests."""
    for path in ("/items/1", "/items/2", "/raises", "/none"):
        shop.get(path)
    return [sample.labels for sample in prometheus.query(query) if sample.value >= 0]


def queries(library: str, when: str) -> Iterator[str]:
    """What the page asks of a library's metrics, or of Stator's in place of them."""
    before = {question: quoted(cell)[0] for question, cell in table(library, "question", "before")}
    after = {question: quoted(cell)[0] for question, cell in table("From an instrumentator", "question", "Stator")}
    assert before.keys() <= after.keys()
    yield from (before if when == "Before" else after).values()


def subfolder(folder: Path, name: str) -> Path:
    """A new folder in another."""
    (folder / name).mkdir()
    return folder / name
