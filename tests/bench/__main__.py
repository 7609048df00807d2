"""Runs the benchmarks: ``make bench``. Figures are ratios against a peer in the same run; none of them fails."""

from tests.bench import start

if __name__ == "__main__":
    start.run()
