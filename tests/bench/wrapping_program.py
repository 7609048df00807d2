"""What it costs to wrap a program: Stator's memory beside it, and whether its requests are as fast as before."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from tests.bench.clients import load
from tests.bench.figures import Figure
from tests.bench.processes import PYZ, Started, free_port, started
from tests.bench.start import MB
from tests.integration.children import CHILDREN

# Rounds, each with both in turn, and requests of a load.
ROUNDS, REQUESTS, CONNECTIONS = 20, 8000, 4
# The kernel shares CPU time by sessions, sched(7); what Stator wraps has its own, as a service of systemd has.
IN_SESSION = [sys.executable, "-c", "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"]


def run() -> Iterator[Figure]:
    """Measures memory, and requests a second of the same server alone and wrapped."""
    with alone() as bare, wrapped() as (port, stator):
        yield Figure("memory (PSS) of Stator beside nginx", f"{own_pss(stator) / MB:.0f} MB", "55 MB or less")
        before = own_cpu(stator)
        rates = [rate_of_both(port, bare, turn=each) for each in range(ROUNDS)]
        spent = own_cpu(stator) - before
    ratio = median(ours / theirs for ours, theirs in rates)
    ours, theirs = (median(each) for each in zip(*rates, strict=True))
    yield Figure(
        "requests a second of nginx, wrapped",
        f"{ratio:.2f} times those of nginx alone",
        "1, as nothing is in their path",
        f"{ours:.0f} and {theirs:.0f} a second; Stator took {spent:.2f} s of CPU for {ROUNDS * REQUESTS} requests",
    )


@contextmanager
def alone() -> Iterator[int]:
    """Nginx, and gives its port."""
    with ExitStack() as stack:
        port = free_port()
        stack.enter_context(started([*IN_SESSION, *_nginx(port, stack)], port, path="/"))
        yield port


@contextmanager
def wrapped() -> Iterator[tuple[int, Started]]:
    """Nginx in the .pyz, and gives its port."""
    with ExitStack() as stack:
        port, own = free_port(), free_port()
        env = {"STTR_SERVER_PORT": str(own), "STTR_ROSTER_SERVICE_PORT": str(port)}
        yield port, stack.enter_context(started([sys.executable, str(PYZ), "--", *_nginx(port, stack)], own, env))


def _nginx(port: int, stack: ExitStack) -> list[str]:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    return [*map(str, CHILDREN["nginx"].prepare(port, folder, stack).command)]


def own_pss(stator: Started) -> int:
    """Memory in bytes of Stator's processes; what several share is counted once."""
    return sum(each.memory_full_info().pss for each in own(stator))


def own_cpu(stator: Started) -> float:
    """CPU seconds of Stator's processes."""
    return float(sum(sum(each.cpu_times()[:2]) for each in own(stator)))


def own(stator: Started) -> list[psutil.Process]:
    """Stator's processes without nginx's."""
    main = psutil.Process(stator.process.pid)
    return [each for each in (main, *main.children(recursive=True)) if each.name() != "nginx"]


def rate_of_both(wrapped: int, alone: int, turn: int) -> tuple[float, float]:
    """Answers a second at both ports, which are asked in another order in each turn."""
    order = (wrapped, alone) if turn % 2 else (alone, wrapped)
    rates = {port: load(port, REQUESTS, CONNECTIONS, path="/").rate for port in order}
    return rates[wrapped], rates[alone]
