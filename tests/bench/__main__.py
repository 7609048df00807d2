"""Runs the benchmarks: ``make bench``, or some: ``make bench ARGS="start soak"``.

Figures are ratios against a peer in the same run; none of them fails. ``--write`` puts them into docs/benchmarks.md.
"""

import argparse
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from stator.settings.table import markdown_table
from stator.version import __version__
from tests.bench import (
    child_output,
    fleet,
    formatting,
    guessing,
    host,
    instrumented,
    many_workers,
    scraping,
    shared_metrics,
    soak,
    start,
    wrapping,
    wrapping_program,
)
from tests.bench.figures import Figure
from tests.integration import fetch

PAGE = Path(__file__).parents[2] / "docs/benchmarks.md"
_BEGIN, _END = "<!-- results: written by `make bench ARGS=--write` -->\n", "<!-- /results -->"
HEADINGS = ("BENCHMARK", "WHAT", "RESULT", "GOAL")


class Benchmark(NamedTuple):
    """One benchmark, and the real programs that it needs, by their names in fetch.py."""

    run: Callable[[], Iterator[Figure]]
    peers: Sequence[str] = ()


BENCHMARKS = {
    "wrapping": Benchmark(wrapping.run),
    "start": Benchmark(start.run),
    "child_output": Benchmark(child_output.run),
    "formatting": Benchmark(formatting.run),
    "instrumented": Benchmark(instrumented.run),
    "shared": Benchmark(shared_metrics.run),
    "scraping": Benchmark(scraping.run),
    "guessing": Benchmark(guessing.run),
    "workers": Benchmark(many_workers.run),
    "host": Benchmark(host.run, ["node-exporter"]),
    "wrapping_program": Benchmark(wrapping_program.run, ["nginx"]),
    "soak": Benchmark(soak.run),
    "fleet": Benchmark(fleet.run, ["consul"]),
}


def run(benchmarks: Mapping[str, Benchmark]) -> Iterator[tuple[str, Figure]]:
    """Gets the programs that the benchmarks need, and runs those that have them; the others are said in a line."""
    needed = [peer for each in benchmarks.values() for peer in each.peers]
    missing = set(fetch.get(needed)) if needed else set()
    for name, benchmark in benchmarks.items():
        if lacking := missing.intersection(benchmark.peers):
            print(f"{name}: not run, since {', '.join(sorted(lacking))} can't be had", flush=True)
            continue
        for figure in benchmark.run():
            print(figure, flush=True)
            yield name, figure


def machine() -> str:
    """What the figures were measured on, and when."""
    cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    cores, memory = os.cpu_count(), psutil.virtual_memory().total / 2**30
    about = f"{model[1].strip() if model else platform.machine()}, {cores} cores, {memory:.0f} GiB"
    software = f"Linux {platform.release().partition('-')[0]}, CPython {platform.python_version()}"
    return f"Measured on {datetime.now(UTC):%Y-%m-%d} with Stator {__version__}: {about}, {software}."


def with_results(page: str, figures: Iterable[tuple[str, Figure]]) -> str:
    """The page with new results in place of the old ones."""
    before, _, rest = page.partition(_BEGIN)
    rows = [(name, each.what, each.value, each.goal) for name, each in figures]
    return f"{before}{_BEGIN}{machine()}\n\n{markdown_table(HEADINGS, rows)}\n{_END}{rest.partition(_END)[2]}"


def main(argv: Sequence[str]) -> int:
    """Runs the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures Stator beside its peers.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/benchmarks.md")
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.write and options.names:
        parser.error("--write takes no names: the page has the results of all")
    figures = list(run({name: BENCHMARKS[name] for name in options.names or BENCHMARKS}))
    if options.write:
        PAGE.write_text(with_results(PAGE.read_text("utf-8"), figures), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
