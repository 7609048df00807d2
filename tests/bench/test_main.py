"""`make bench` gets what it needs, and says in a line what can't be had."""

from collections.abc import Iterator, Sequence

import pytest

from tests.bench import __main__ as bench
from tests.bench.figures import Figure
from tests.integration import fetch


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
