"""How fast scrapes are answered over HTTP, against prometheus_client's applications on gunicorn."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import psutil

from tests.bench.clients import PROMETHEUS, Load, load
from tests.bench.figures import Figure
from tests.bench.processes import PYZ, ROOT, Started, free_port, started, stator

GUNICORN = [sys.executable, "-m", "gunicorn", "--no-control-socket"]
GZIP = PROMETHEUS + "Accept-Encoding: gzip\r\n"
BIG_SCRAPES = 7
# Loads of each in turn, since others on the machine come and go; so many scrapes of ours, a third of the peer's.
ROUNDS, SCRAPES = 7, 1500
# By the number of connections.
GOALS = {1: "1.3 or more", 8: "3 or more"}


class Loaded(NamedTuple):
    """A load, and the CPU seconds that each scrape cost all of the service's processes."""

    load: Load
    cpu: float


def run() -> Iterator[Figure]:
    """Measures large scrapes, and many small ones."""
    with ours_big() as ours, peers_big() as peer:
        mine, theirs = [], []
        for _ in range(BIG_SCRAPES):
            mine.append(median(load(ours.port, 1, 1, GZIP).latencies))
            theirs.append(median(load(peer.port, 1, 1, GZIP).latencies))
    yield Figure(
        "100,000 series over HTTP with gzip",
        f"{median(theirs) / median(mine):.1f} times as fast as prometheus_client's ASGI application under gunicorn",
        "8 or more",
    )
    with stator() as ours, peers_default() as peer:
        for connections, goal in GOALS.items():
            loaded(ours, connections)  # warm
            pairs = [(loaded(ours, connections), loaded(peer, connections, SCRAPES // 3)) for _ in range(ROUNDS)]
            ratio = median(mine.load.rate / theirs.load.rate for mine, theirs in pairs)
            sides = zip(("Stator", "prometheus_client"), zip(*pairs, strict=True), strict=True)
            yield Figure(
                f"requests a second of the default collectors, with the log, connections: {connections}",
                f"{ratio:.1f} times those of prometheus_client's WSGI application on gthread with 8 threads",
                goal,
                "; ".join(described(name, loads) for name, loads in sides),
            )


def described(name: str, loads: Iterable[Loaded]) -> str:
    """The medians of one side's loads."""
    each = list(loads)
    return (
        f"{name}: {median(one.load.rate for one in each):.0f}/s, "
        f"p50 {median(one.load.percentile(50) for one in each) * 1e3:.2f} ms, "
        f"p99 {median(one.load.percentile(99) for one in each) * 1e3:.2f} ms, "
        f"CPU {median(one.cpu for one in each) * 1e3:.3f} ms a scrape"
    )


def loaded(service: Started, connections: int, scrapes: int = SCRAPES, headers: str = PROMETHEUS) -> Loaded:
    """A load on a service, and what it cost."""
    before = cpu_seconds(service)
    result = load(service.port, scrapes, connections, headers)
    return Loaded(result, (cpu_seconds(service) - before) / len(result.latencies))


def cpu_seconds(service: Started) -> float:
    """CPU time so far of all of a service's processes."""
    main = psutil.Process(service.process.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (main, *main.children(recursive=True)))


@contextmanager
def ours_big() -> Iterator[Started]:
    port = free_port()
    env = {"STTR_SERVER_PORT": str(port), "STTR_COLLECTORS": "tests.bench.points:Points", "PYTHONPATH": str(ROOT)}
    with started([sys.executable, str(PYZ)], port, env) as running:
        yield running


@contextmanager
def peers_big() -> Iterator[Started]:
    port = free_port()
    command = [*GUNICORN, "-k", "asgi", "-b", f"127.0.0.1:{port}", "tests.bench.peers:many_points()"]
    with started(command, port) as running:
        yield running


@contextmanager
def peers_default() -> Iterator[Started]:
    port = free_port()
    command = [*GUNICORN, "-k", "gthread", "--threads", "8", "-b", f"127.0.0.1:{port}", "tests.bench.peers:defaults()"]
    with started(command, port) as running:
        yield running
