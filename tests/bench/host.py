"""What a scrape of the host costs, against node_exporter with the same collectors."""

import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from statistics import median

from stator.collectors.host.config import GROUPS
from tests.bench.clients import load
from tests.bench.figures import Figure
from tests.bench.processes import PYZ, free_port, started
from tests.bench.scraping import loaded
from tests.integration.hosts import differences
from tests.integration.programs import node_exporter

ROUNDS, SCRAPES = 7, 400


def run() -> Iterator[Figure]:
    """Measures a scrape of both, and compares what they expose."""
    ours, theirs = free_port(), free_port()
    # Of the sockets that both count, that of the scrape itself must be of the same protocol.
    env = {"STTR_SERVER_HOST": "127.0.0.1", "STTR_SERVER_PORT": str(ours), "STTR_COLLECTORS": "host"}
    peer_command = list(map(str, node_exporter(GROUPS, theirs)))
    with started([sys.executable, str(PYZ)], ours, env) as stator, started(peer_command, theirs, path="/") as peer:
        for each in (stator, peer):
            load(each.port, SCRAPES, 1)  # warm
        rounds = [(loaded(stator, 1, SCRAPES), loaded(peer, 1, SCRAPES)) for _ in range(ROUNDS)]
        wall = [median(each[side].load.percentile(50) for each in rounds) * 1e3 for side in (0, 1)]
        cpu = [median(each[side].cpu for each in rounds) * 1e3 for side in (0, 1)]
        found = differences(lambda: exposition(ours), lambda: exposition(theirs), 50)
    for kind, (own, peers) in {"wall time": wall, "CPU time": cpu}.items():
        yield Figure(
            f"{kind} of a scrape of the collector host",
            f"{own / peers:.2f} times that of node_exporter with the same collectors",
            "1 or less",
            f"{own:.2f} ms, {peers:.2f} ms",
        )
    yield Figure("series that differ from node_exporter's", ", ".join(map(str, found)) or "none")


def exposition(port: int) -> bytes:
    """One answer to a scrape."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
