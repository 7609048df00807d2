"""Runs the benchmarks: ``make bench``, or some: ``make bench ARGS="start soak"``.

Figures are ratios against a peer in the same run; none of them fails.
"""

import sys

from tests.bench import fleet, formatting, scraping, soak, start

BENCHMARKS = {
    "start": start.run,
    "formatting": formatting.run,
    "scraping": scraping.run,
    "soak": soak.run,
    "fleet": fleet.run,
}

if __name__ == "__main__":
    chosen = sys.argv[1:] or BENCHMARKS
    if unknown := [name for name in chosen if name not in BENCHMARKS]:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in chosen:
        BENCHMARKS[name]()
