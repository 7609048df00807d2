"""A real application, instrumented with prometheus_client, is exposed by the library and by us."""

import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.programs import Program as Peer
from tests.integration.programs import free_ports
from tests.program import Program

APPLICATION = """\
import os, sys
from wsgiref.simple_server import make_server
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

requests = Counter("shop_requests", "Requests so far", ["method", "path"])
waits = Histogram("shop_wait_seconds", "Time spent waiting", ["path"], buckets=[0.1, 1, 5e6])
sizes = Summary("shop_answer", "Size of answers", unit="bytes")
depth = Gauge("shop_depth", "Orders that wait")
for nth in range(2):
    if (child := os.fork()) == 0:
        requests.labels("GET", '/a "b"').inc(nth + 1)
        waits.labels("/").observe(nth)
        sizes.observe(1000)
        depth.set(nth)
        os._exit(0)
    os.waitpid(child, 0)
registry = CollectorRegistry()
MultiProcessCollector(registry)
make_server("127.0.0.1", int(sys.argv[1]), make_wsgi_app(registry)).serve_forever()
"""


class Shop(Peer):
    """An application of two processes."""

    def __init__(self, numbers: Path, folder: Path) -> None:
        (port,) = free_ports(1)
        (folder / "shop.py").write_text(APPLICATION)
        variable = f"PROMETHEUS_MULTIPROC_DIR={numbers}"
        super().__init__(["env", variable, sys.executable, folder / "shop.py", str(port)], port, folder)

    def ready(self) -> bool:
        return bool(self.get("/metrics"))


def samples(body: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(body.decode())
    found = (sample for family in families for sample in family.samples if sample.name.startswith("shop_"))
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}


def test_both_give_the_same_samples(tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    with Shop(tmp_path / "numbers", tmp_path) as shop:
        theirs = samples(shop.get("/metrics"))
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "numbers"), "STTR_COLLECTORS": "prometheus_client"}
    with Program(env, tmp_path) as stator:
        mine = samples(stator.get("/metrics").body)
    assert mine == theirs
    assert mine["shop_requests_total", frozenset({("method", "GET"), ("path", '/a "b"')})] == 3
