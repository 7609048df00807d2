"""The examples are observable as their README says: by requests, metrics, logs and checks, over all workers."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.embedding.applications import Command
from tests.instrumentation.scraping import counts, samples
from tests.integration.programs import Prometheus, Scraper, free_ports
from tests.program import ROOT, Program, eventually

EXAMPLES = ROOT / "examples"
DASHBOARDS = sorted((ROOT / "etc/grafana").glob("*.json"))


class Example(NamedTuple):
    """How an example is started, and how its framework spells the routes."""

    command: Command
    item: str
    order: str


def uvicorn(port: int) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "app:app", "--workers=4", f"--port={port}"]


def gunicorn(port: int, app: str = "app:app") -> list[str]:
    return [sys.executable, "-m", "gunicorn", "--no-control-socket", "--workers=4", f"--bind=127.0.0.1:{port}", app]


SHOPS = {
    "fastapi": Example(uvicorn, "/items/{name}", "/orders/{name}"),
    "flask": Example(gunicorn, "/items/<name>", "/orders/<name>"),
    "falcon": Example(gunicorn, "/items/{name}", "/orders/{name}"),
    "django": Example(lambda port: gunicorn(port, "app:application"), "/items/<name>", "/orders/<name>"),
}


class Shop(Program):
    """One of the shops, in 4 workers."""

    def __init__(self, name: str, folder: Path, code: Path | None = None) -> None:
        (port,) = free_ports(1)
        env = {"STTR_SERVER_PORT": str(port), "PYTHONPATH": f"{ROOT}:{code or EXAMPLES / name}"}
        super().__init__(env, folder, command=SHOPS[name].command(port))

    def ready(self) -> bool:
        """Whether it answers."""
        assert self._process.poll() is None, self.errors
        try:
            return self.get("/monitor").status == 200 and self.count_workers() == 4
        except OSError:
            return False

    def count_workers(self) -> int:
        """How many workers a scrape reports."""
        text = self.get("/metrics").body.decode()
        return len([labels for labels in samples(text, "pyrt_threads") if "worker" in labels])

    def trade(self, orders: int) -> None:
        """Sells so many apples, and some that are not there."""
        for _ in range(orders):
            assert self.get("/").status == 200
            assert self.get("/items/apple").status == 200
            assert self.get("/items/moon").status == 404
            assert self.request("POST", "/orders/apple").status == 200
            assert self.request("POST", "/orders/moon").status == 500


@pytest.fixture(params=SHOPS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(name: str, tmp_path: Path) -> Iterator[Shop]:
    with Shop(name, tmp_path) as running:
        eventually(running.ready, within=30)
        yield running


def test_a_shop_counts_and_logs_over_all_workers(name: str, shop: Shop) -> None:
    shop.trade(10)
    # Where the server, or the framework, answers the exception itself, it is known by its signal alone.
    error = "" if name == "falcon" else "ValueError"
    order = SHOPS[name].order
    expected = Counter(
        {
            ("GET", "/", "200", ""): 10,
            ("GET", SHOPS[name].item, "200", ""): 10,
            ("GET", SHOPS[name].item, "404", ""): 10,
            ("POST", order, "200", ""): 10,
            ("POST", order, "500", error): 10,
        }
    )
    for _ in range(10):
        text = shop.get("/metrics").body.decode()
        assert counts(text) == expected
        assert samples(text, "shop_orders_total") == {("apple",): 10}
    assert json.loads(shop.get("/monitor").body)["status"] == "ok"
    taken = shop.lines("order taken", item="apple")
    answered = {line["request_id"]: line for line in shop.lines("answered request", method="POST", status=200)}
    assert len(taken) == len(answered) == 10
    for line in taken:
        assert answered[line["request_id"]]["worker_id"] == line["worker_id"]
        assert (line["app_id"], line["logger"], line["level"]) == ("shop", "shop", "info")
    assert len({line["run_id"] for line in taken}) == 1


def test_the_readmes_application_does_what_the_readme_says(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(# app\.py: FastAPI.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "app.py").write_text(code)
    with Shop("fastapi", tmp_path, code=tmp_path) as shop:
        eventually(shop.ready, within=30)
        for _ in range(8):
            assert shop.get("/openapi.json").status == 200
        for _ in range(8):
            assert counts(shop.get("/metrics").body.decode()) == {("GET", "/openapi.json", "200", ""): 8}
        assert json.loads(shop.get("/monitor").body)["status"] == "ok"
        assert len(shop.lines("answered request", route="/openapi.json", app_id="shop")) == 8


def test_the_worker_without_a_server_answers_scrapes(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    env = {"STTR_SERVER_PORT": str(port), "PORT": str(port), "MAILS": "300"}
    with Program(env, tmp_path, command=[sys.executable, str(EXAMPLES / "worker/worker.py")]) as worker:
        worker.wait_for("mail sent")
        text = worker.get("/metrics").body.decode()
        (sent,) = samples(text, "mailer_sent_total").values()
        assert sent > 0
        assert worker.get("/monitor").status == 200
        assert worker.ended(within=30) == 0
        assert len(worker.lines("mail sent")) == 300


def test_the_table_names_every_example_and_how_it_is_started() -> None:
    rows = re.findall(r"^\| \[(.*?)\].*`(.*?)` \|$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert {path for path, _ in rows} == found
    for path, command in rows:
        code = (EXAMPLES / path).read_text()
        assert command in code.splitlines()[0]


@pytest.fixture
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraper]:
    """Prometheus, which scrapes a shop and the program on this host as if Consul listed them."""
    with ExitStack() as running:
        shop = running.enter_context(Shop("fastapi", tmp_path_factory.mktemp("shop")))
        env = {"STTR_COLLECTORS": "runtime,diskusage,wave,host"}
        stator = running.enter_context(Program(env, tmp_path_factory.mktemp("stator")))
        eventually(shop.ready, within=30)
        targets = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"service": name, "instance": f"{name}-1"}}
            for name, port in (("shop", shop.port), ("stator", stator.port))
        ]
        jobs = [{"job_name": "api_services", "static_configs": targets}]
        config = json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs})
        prometheus = running.enter_context(Prometheus("2.42", config, tmp_path_factory.mktemp("prometheus")))
        # Each rate needs two scrapes that differ.
        for scrapes in (1, 2, 3):
            shop.trade(2)
            eventually(partial(prometheus.query, f"count_over_time(up[1m]) > {scrapes}"))
        yield prometheus


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_prometheus_answers_the_query_of_each_panel(scraped: Scraper, path: Path) -> None:
    dashboard = json.loads(path.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert queries
    for query in queries:
        asked = query.replace("$__rate_interval", "30s").replace("$instance", ".+").replace("$service", ".+")
        # Not every host has disks, other networks than its own, and figures of pressure.
        if all(scraped.query(each) for each in re.findall(r"\bnode_\w+", asked)):
            eventually(partial(scraped.query, asked), within=20)
