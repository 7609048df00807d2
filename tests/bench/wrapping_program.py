"""What it costs to wrap a program: Stator's memory beside it, and whether its requests cost more than before."""

import sys
from collections.abc import Iterable, Iterator
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
    """Measures memory, and the requests of the same server alone and wrapped."""
    with alone() as (bare_port, bare), wrapped() as (port, stator):
        nginx, ours = split(stator)
        pss = sum(each.memory_full_info().pss for each in ours)
        yield Figure("memory (PSS) of Stator beside nginx", f"{pss / MB:.0f} MB", "55 MB or less")
        trees = (nginx, tree(bare), ours)
        before = [cpu(each) for each in trees]
        rates = [rate_of_both(port, bare_port, turn) for turn in range(ROUNDS)]
        spent = [cpu(each) - seconds for each, seconds in zip(trees, before, strict=True)]
    requests = ROUNDS * REQUESTS
    yield Figure(
        "CPU time of a request of nginx, wrapped",
        f"{spent[0] / spent[1]:.2f} times that of nginx alone",
        "1, as nothing is in its path",
        f"{median(rate[0] for rate in rates):.0f} and {median(rate[1] for rate in rates):.0f} requests a second; "
        f"Stator took {spent[2]:.2f} s of CPU for {requests} requests",
    )


@contextmanager
def alone() -> Iterator[tuple[int, Started]]:
    """Nginx, and its port."""
    with ExitStack() as stack:
        port = free_port()
        yield port, stack.enter_context(started([*IN_SESSION, *_nginx(port, stack)], port, path="/"))


@contextmanager
def wrapped() -> Iterator[tuple[int, Started]]:
    """Nginx in the .pyz, and its port."""
    with ExitStack() as stack:
        port, own = free_port(), free_port()
        env = {"STTR_SERVER_PORT": str(own), "STTR_ROSTER_SERVICE_PORT": str(port)}
        yield port, stack.enter_context(started([sys.executable, str(PYZ), "--", *_nginx(port, stack)], own, env))


def _nginx(port: int, stack: ExitStack) -> list[str]:
    folder = Path(stack.enter_context(TemporaryDirectory()))
    return [*map(str, CHILDREN["nginx"].prepare(port, folder, stack).command)]


def tree(running: Started) -> list[psutil.Process]:
    """All of its processes."""
    main = psutil.Process(running.process.pid)
    return [main, *main.children(recursive=True)]


def split(stator: Started) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The processes of nginx, and Stator's own."""
    nginx = [each for each in tree(stator) if each.name() == "nginx"]
    return nginx, [each for each in tree(stator) if each not in nginx]


def cpu(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds that they have taken."""
    return sum(each.cpu_times().user + each.cpu_times().system for each in processes)


def rate_of_both(wrapped: int, alone: int, turn: int) -> tuple[float, float]:
    """Answers a second at both ports, which are asked in another order in each turn."""
    order = (wrapped, alone) if turn % 2 else (alone, wrapped)
    rates = {port: load(port, REQUESTS, CONNECTIONS, path="/").rate for port in order}
    return rates[wrapped], rates[alone]
