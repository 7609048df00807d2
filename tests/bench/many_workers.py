"""What it costs to tell of every process, where there are many."""

import sys
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.bench.host import exposition
from tests.bench.processes import PYZ, free_port, started
from tests.bench.scraping import loaded

WORKERS, SCRAPES = 8, 1000


def run() -> Iterator[Figure]:
    """Measures what a scrape costs, against one without collectors."""
    costs = [_cost(collectors) for collectors in ("", "runtime,process")]
    yield Figure(
        f"a scrape of runtime and process of {WORKERS} workers",
        f"{(costs[1] - costs[0]) * 1e3:.2f} ms of CPU, in all {costs[1] / costs[0]:.1f} times a scrape of nothing",
        "3 ms or less",
    )


def _cost(collectors: str) -> float:
    """CPU seconds that a scrape costs."""
    port = free_port()
    env = {"STTR_SERVER_PORT": str(port), "STTR_SERVER_WORKERS": str(WORKERS), "STTR_COLLECTORS": collectors}
    with started([sys.executable, str(PYZ)], port, env) as stator:
        for _ in range(10 * WORKERS):
            exposition(port)  # warm: a connection each, so that every worker gets some
        return loaded(stator, WORKERS, SCRAPES).cpu
