"""What it costs to start: the time of -h, the time to the first answer, the memory of all processes."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from tests.bench.figures import Figure
from tests.bench.processes import PYZ, bare, stator

ROUNDS = 15
MB = 1_000_000


def run() -> Iterator[Figure]:
    """Measures help, start and memory."""
    ours, peer = alternate(lambda: timed([str(PYZ), "-h"]), lambda: timed(["-c", "pass"]))
    yield Figure("`-h` from the .pyz", f"{ours / peer:.1f} times the time of `python3 -c pass`", "5 or less")
    ours, peer = alternate(start_of_stator, start_of_bare)
    value = f"{ours / peer:.2f} times the time of a bare gunicorn with Falcon"
    yield Figure("start, to the first answer of /monitor", value, "1.5 or less")
    with stator() as running:
        ours = running.pss()
    with bare() as running:
        peer = running.pss()
    value = f"{ours / MB:.0f} MB, {ours / peer:.2f} times a bare gunicorn with Falcon"
    yield Figure("memory (PSS) of all processes", value, "55 MB or less")


def alternate(ours: Callable[[], float], peer: Callable[[], float]) -> tuple[float, float]:
    """Medians of two measurements taken in turn, so that a noisy moment meets both; the first round warms up."""
    rounds = [(ours(), peer()) for _ in range(ROUNDS + 1)][1:]
    return median(each[0] for each in rounds), median(each[1] for each in rounds)


def timed(arguments: list[str]) -> float:
    """Seconds that Python takes for a command line."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def start_of_stator() -> float:
    """Seconds from starting the .pyz to its first answer."""
    with stator() as running:
        return running.seconds


def start_of_bare() -> float:
    """Seconds from starting the peer to its first answer."""
    with bare() as running:
        return running.seconds
