"""`make bench` gets what it needs, and says in a line what can't be had."""

import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.bench import __main__ as bench
from tests.bench.figures import Figure
from tests.integration import fetch
from tests.integration.programs import program_path
from tests.program import ROOT


def measured() -> Iterator[Figure]:
    yield Figure("a scrape", "2 times as fast", "1 or more", "1 ms, 2 ms")


def test_a_benchmark_whose_program_can_not_be_had_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get(names: Sequence[str]) -> list[str]:
        return [name for name in names if name == "consul"]

    monkeypatch.setattr(fetch, "get", get)
    benchmarks = {"host": bench.Benchmark(measured, ["node-exporter"]), "fleet": bench.Benchmark(measured, ["consul"])}
    assert [name for name, _ in bench.run(benchmarks)] == ["host"]
    assert capsys.readouterr().out.splitlines() == [
        "a scrape: 2 times as fast (goal: 1 or more)",
        "  1 ms, 2 ms",
        "fleet: not run, since consul can't be had",
    ]


def test_the_results_on_the_page_are_replaced() -> None:
    page = bench.PAGE.read_text("utf-8")
    once = bench.with_results(page, [("host", next(measured()))])
    assert "| host | a scrape | 2 times as fast | 1 or more |\n" in once
    assert bench.with_results(once, []).count("| host | a scrape") == 0
    assert once.partition("## Results")[0] == page.partition("## Results")[0]


def test_the_page_describes_every_benchmark() -> None:
    page = bench.PAGE.read_text("utf-8")
    assert all(f"\n| `{name}` | " in page for name in bench.BENCHMARKS)


def test_a_benchmark_that_there_is_not_ends_it_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["nothing"])
    assert ended.value.code == 2
    assert "no benchmark is named nothing; there are wrapping, start, " in capsys.readouterr().err


SMALL_FLEET = """
from tests.bench import fleet
fleet.ROSTERS, fleet.CALM, fleet.ABSENCE = 5, 0.5, 1.0
for figure in fleet.run():
    print(figure)
"""


def test_a_fleet_is_registered_comes_back_and_leaves() -> None:
    program_path("consul")
    done = subprocess.run([sys.executable, "-c", SMALL_FLEET], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, _, _, again, last = done.stdout.splitlines()
    assert first.startswith("5 instances, one agent: all registered: after ")
    assert again.startswith("agent started again, its data gone: all registered: after ")
    assert last.endswith("; 0 are still listed")
