"""How fast points become text, without HTTP, compared with prometheus_client's registry and a custom collector."""

import itertools
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

from prometheus_client import generate_latest

from stator.exporter import joined
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.points import PointsAt
from tests.bench.figures import Figure
from tests.bench.points import COUNT, Peer, Points, Ready, labels_of, registry

ROUNDS = 7


def run() -> Iterator[Figure]:
    """Measures formatting alone, and with collecting."""
    peer, ready = registry(Peer()), registry(Ready())
    collector, encoder = Points(), Encoder(TEXT_0_0_4, timestamps=False)
    scrapes = iter(collector.collect(1.5e9 + nth) for nth in itertools.count())

    steady, theirs, formatting = fastest(
        lambda points: text(encoder, points), generate_latest, generate_latest, lambda: (next(scrapes), peer, ready)
    )
    yield Figure(
        f"{COUNT:,} series formatted, only their values new",
        f"{theirs / steady:.1f} times as fast as prometheus_client",
        "25 or more",
        f"{formatting / steady:.1f} times where its families are ready-made; {COUNT / steady / 1e6:.1f}M samples/s",
    )
    fresh, theirs, formatting = fastest(
        lambda points: text(Encoder(TEXT_0_0_4, timestamps=False), points),
        generate_latest,
        generate_latest,
        lambda: (fresh_points(), peer, ready),
    )
    yield Figure(
        "the same, nothing kept from an earlier scrape",
        f"{theirs / fresh:.1f} times as fast as prometheus_client",
        "4 or more",
        f"{formatting / fresh:.1f} times where its families are ready-made",
    )
    both, theirs, _ = fastest(
        lambda now: text(encoder, collector.collect(now)), generate_latest, abs, lambda: (time.time(), peer, 0)
    )
    yield Figure("collected and formatted", f"{theirs / both:.1f} times as fast as prometheus_client", "10 or more")
    yield from million()


def text(encoder: Encoder, points_at: PointsAt) -> bytes:
    """The exposition of one source."""
    exposition = encoder.exposition()
    exposition.add("bench", points_at)
    return joined(exposition.pieces())


def fresh_points() -> PointsAt:
    """Points that share no object with earlier ones."""
    points = Points()
    points._labels = [labels_of(nth) for nth in range(COUNT)]
    return points.collect(time.time())


def fastest(*functions_and_given: Callable[..., object]) -> list[float]:
    """The least seconds of each function, measured in turns; the last callable returns the argument for each."""
    *functions, given = functions_and_given
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        arguments = given()
        assert isinstance(arguments, tuple)
        for taken, function, argument in zip(times, functions, arguments, strict=True):
            begin = time.perf_counter()
            function(argument)
            taken.append(time.perf_counter() - begin)
    return [min(taken) for taken in times]


def million() -> Iterator[Figure]:
    """Compares a million points with a hundred thousand, each in a process of its own."""
    few, many = (measured(count) for count in (100_000, 1_000_000))
    yield Figure(
        "1,000,000 series formatted", f"{many[0] / few[0]:.2f} times the time per point of 100,000", "1.5 or less"
    )
    yield Figure("peak memory of formatting them", f"{many[1]:.1f} times the body", "4 or less")


def measured(count: int) -> tuple[float, float]:
    """The seconds per point, and the peak memory as a multiple of the body."""
    command = [sys.executable, "-m", "tests.bench.formatting"]
    run = subprocess.run(command, env={"BENCH_POINTS": str(count)}, capture_output=True, text=True, check=True)
    seconds, memory = map(float, run.stdout.split())
    return seconds, memory


def measure() -> None:
    """Prints for `measured` the costs of formatting in this process."""
    collector, encoder = Points(), Encoder(TEXT_0_0_4, timestamps=False)
    tracemalloc.start()
    points = collector.collect(1.5)
    before = tracemalloc.get_traced_memory()[0]
    body = len(text(encoder, points))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    taken = []
    for nth in range(3):
        points = collector.collect(2.5 + nth)
        begin = time.perf_counter()
        text(encoder, points)
        taken.append(time.perf_counter() - begin)
    print(min(taken) / COUNT, peak / body)


if __name__ == "__main__":
    measure()
