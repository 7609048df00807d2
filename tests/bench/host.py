"""What a scrape of the host costs, against node_exporter with the same collectors."""

import sys
from contextlib import closing
from http.client import HTTPConnection
from statistics import median

from stator.collectors.host.config import GROUPS
from tests.bench.clients import load
from tests.bench.processes import PYZ, free_port, started
from tests.bench.scraping import loaded
from tests.integration.hosts import differences
from tests.integration.programs import node_exporter

ROUNDS, SCRAPES = 7, 400


def run() -> None:
    """Prints each ratio beside its aim, and where the two differ in what they say."""
    ours, theirs = free_port(), free_port()
    env = {"STTR_SERVER_PORT": str(ours), "STTR_COLLECTORS": "host"}
    peer_command = list(map(str, node_exporter(GROUPS, theirs)))
    with started([sys.executable, str(PYZ)], ours, env) as stator, started(peer_command, theirs, path="/") as peer:
        for each in (stator, peer):
            load(each.port, SCRAPES, 1)  # warm
        rounds = [(loaded(stator, 1, SCRAPES), loaded(peer, 1, SCRAPES)) for _ in range(ROUNDS)]
        wall = [median(each[side].load.percentile(50) for each in rounds) * 1e3 for side in (0, 1)]
        cpu = [median(each[side].cpu for each in rounds) * 1e3 for side in (0, 1)]
        found = differences(lambda: exposition(ours), lambda: exposition(theirs), 50)
    print(
        f"host alone: {wall[0] / wall[1]:.2f} times the wall time of node_exporter with the same collectors "
        f"({wall[0]:.2f} ms, {wall[1]:.2f} ms), {cpu[0] / cpu[1]:.2f} times its CPU "
        f"({cpu[0]:.2f} ms, {cpu[1]:.2f} ms) (aim: 1 or less each)"
    )
    print(f"  what it says and node_exporter does not, or differently: {found}")


def exposition(port: int) -> bytes:
    """One answer to a scrape."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
