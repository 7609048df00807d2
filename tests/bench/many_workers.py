"""What it costs to tell of every process, where there are many."""

import sys

from tests.bench.host import exposition
from tests.bench.processes import PYZ, free_port, started
from tests.bench.scraping import loaded

WORKERS, SCRAPES = 8, 1000


def run() -> None:
    """Prints the cost of a scrape beside its aim, against one that tells of nothing."""
    costs = [_cost(collectors) for collectors in ("", "runtime,process")]
    print(
        f"runtime and process of {WORKERS} workers: {(costs[1] - costs[0]) * 1e3:.2f} ms CPU a scrape "
        f"(aim: less than 3), in all {costs[1] / costs[0]:.1f} times one without collectors"
    )


def _cost(collectors: str) -> float:
    """CPU seconds that a scrape costs."""
    port = free_port()
    env = {"STTR_SERVER_PORT": str(port), "STTR_SERVER_WORKERS": str(WORKERS), "STTR_COLLECTORS": collectors}
    with started([sys.executable, str(PYZ)], port, env) as stator:
        for _ in range(10 * WORKERS):
            exposition(port)  # warm: a connection each, so that every worker gets some
        return loaded(stator, WORKERS, SCRAPES).cpu
