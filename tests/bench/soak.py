"""How much memory grows over many scrapes whose labels come and go."""

import gc
import os
from collections.abc import Iterator

import psutil

from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.negotiation import Negotiator
from stator.log.logger import LoggerConfig
from stator.log.writer import Sink
from stator.points import Collector, Point, PointsAt
from tests.bench.figures import Figure

SCRAPES = 200_000
SETTLED = 20_000
SERIES = 20


class Churn:
    """A few series, one of which is replaced by another at each collection."""

    def __init__(self) -> None:
        self._collections = 0

    def collect(self, now: float) -> PointsAt:
        self._collections += 1
        names = range(self._collections, self._collections + SERIES)
        points = [Point("jobs", "Jobs that wait", now, labels=(("job", f"job-{name}"),)) for name in names]
        return PointsAt("churn", now, points=points)


def run() -> Iterator[Figure]:
    """Measures by how much memory grew after the first scrapes."""
    log = LoggerConfig(level="error").build(Sink(os.open(os.devnull, os.O_WRONLY)), terminal=False)
    collectors: dict[str, Collector] = {"churn": Churn()}
    exporter = Exporter(collectors, MetricsConfig(), (), log)
    ask = ScrapeRequest(Negotiator().encoder_for(""))
    resident = psutil.Process().memory_info
    settled = 0
    for nth in range(SCRAPES):
        exporter.scrape(ask)
        if nth == SETTLED:
            gc.collect()
            settled = resident().rss
    gc.collect()
    grown = (resident().rss / settled - 1) * 100
    what = f"memory after {SCRAPES:,} scrapes, with {SCRAPES + SERIES:,} series that came and went"
    yield Figure(what, f"{grown:.1f} % more than after {SETTLED:,}", "5 % or less")
