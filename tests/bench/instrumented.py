"""How fast an application's own prometheus_client metrics are exposed: by us, and by the library itself."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stator.collectors.prometheus_client import PrometheusClient
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from tests.bench.figures import Figure
from tests.bench.formatting import fastest, text

PATHS, CODES = 500, ("200", "404", "500")


def run() -> Iterator[Figure]:
    """Measures an exposition of both."""
    registry = instrumented()
    collector, formatter = PrometheusClient(registry), Encoder(TEXT_0_0_4, timestamps=False)
    samples = sum(not line.startswith(b"#") for line in generate_latest(registry).splitlines())
    mine, theirs, collecting = fastest(
        lambda now: text(formatter, collector.collect(now)),
        generate_latest,
        lambda each: list(each.collect()),
        lambda: (1.5, registry, registry),
    )
    yield Figure(
        f"an application's {samples:,} samples, kept with prometheus_client",
        f"{theirs / mine:.1f} times as fast as prometheus_client itself",
        details=f"{(theirs - collecting) / (mine - collecting):.1f} times without the library's own collecting",
    )


def instrumented() -> CollectorRegistry:
    """A web application's metrics, after it has been asked for many paths."""
    registry = CollectorRegistry()
    requests = Counter("requests", "Requests so far", ["path", "code"], registry=registry)
    waits = Histogram("wait_seconds", "Time that requests took", ["path"], registry=registry)
    running = Gauge("running", "Requests that run", ["path"], registry=registry)
    for nth in range(PATHS):
        path = f"/items/{nth}"
        for code in CODES:
            requests.labels(path, code).inc(nth)
        waits.labels(path).observe(nth / 100)
        running.labels(path).set(nth % 3)
    return registry
