"""The real Prometheus scrapes the real program in each text format that it knows, and has what was collected."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from stator.exposition.text import TEXT_0_0_4
from stator.points import Histogram, Labels, Point, Summary, family_name
from tests.exposition.exposing import exposed
from tests.integration.conftest import StartsPrometheus
from tests.integration.exotic import ABROAD, GONE, HERE, POINTS, Exotic
from tests.integration.programs import Promtool, Sample, Scraper, eventually
from tests.program import Program

Series = frozenset[tuple[str, str]]
# Each version that is tried, and its own words for the text formats that it knows; 2.42 has none.
KNOWN = {
    "2.24": [],
    "2.42": [],
    "2.53": ["OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText0.0.4"],
    "3": ["OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4"],
}
# Those in which samples carry no time, so that Prometheus sees at once that a series is gone.
STALE_AT_ONCE = {"2.42": ["default"], "2.53": ["default", "OpenMetricsText1.0.0"]}
STALE_AT_ONCE["3"] = [*STALE_AT_ONCE["2.53"], "PrometheusText1.0.0"]


@pytest.fixture
def stator(tmp_path: Path) -> Iterator[Program]:
    collectors = "tests.integration.exotic:Exotic,tests.integration.exotic:Abroad"
    with Program({"STTR_COLLECTORS": collectors}, tmp_path) as running:
        running.wait_for("ready")
        yield running


def scraping(stator: Program, version: str) -> str:
    """A job for each format, and one that leaves the choice to the program."""
    jobs = {"default": "", **{name: f", scrape_protocols: [{name}]" for name in KNOWN[version]}}
    return "global: {scrape_interval: 1s}\nscrape_configs:\n" + "".join(
        f"  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{stator.port}']}}]{how}}}\n"
        for name, how in jobs.items()
    )


def bits(number: float) -> bytes:
    return struct.pack("d", math.nan if math.isnan(number) else number)


def collected(*points: Point, common: str = "exotic", shared: Labels = (("common", "{}"),)) -> dict[Series, bytes]:
    """Series, without the labels that a scraper adds, and their values."""
    return dict(each for point in points for each in samples(point, common, shared))


def samples(point: Point, common: str, shared: Labels) -> Iterator[tuple[Series, bytes]]:
    name = family_name(common, point.name, point.unit) + {"counter": "_total", "info": "_info"}.get(point.type, "")
    numbers: list[tuple[str, tuple[tuple[str, str], ...], float]]
    match point.value:
        case Histogram(buckets, total, count):
            numbers = [("_bucket", (("le", str(float(bound))),), at) for bound, at in buckets]
            numbers += [("_bucket", (("le", "+Inf"),), count), ("_sum", (), total), ("_count", (), count)]
        case Summary(quantiles, total, count):
            numbers = [("", (("quantile", str(float(quantile))),), at) for quantile, at in quantiles]
            numbers += [("_sum", (), total), ("_count", (), count)]
        case number:
            numbers = [("", (), number)]
    for suffix, last, number in numbers:
        every = (("__name__", name + suffix), *shared, *point.labels, *last)
        # To Prometheus an empty label is none.
        yield frozenset((key, value) for key, value in every if value), bits(float(number))


def stored(found: list[Sample]) -> dict[Series, bytes]:
    return {
        frozenset((key, value) for key, value in each.labels.items() if key not in ("job", "instance")): bits(
            each.value
        )
        for each in found
    }


def all_are_up(scraper: Scraper, version: str) -> bool:
    return len(scraper.query("up == 1")) == 1 + len(KNOWN[version])


@pytest.mark.parametrize("version", KNOWN)
def test_the_database_has_what_was_collected_whatever_the_format(
    stator: Program, prometheus: StartsPrometheus, version: str
) -> None:
    running = prometheus(scraping(stator, version), version)
    eventually(lambda: all_are_up(running, version))
    assert [target["lastError"] for target in running.targets()] == [""] * (1 + len(KNOWN[version]))
    for job in ("default", *KNOWN[version]):
        assert stored(running.query(f'{{job="{job}",__name__=~"exotic_.+"}}')) == collected(*POINTS, HERE), job


def test_names_beyond_the_legacy_characters_are_kept_by_prometheus_3(
    stator: Program, prometheus: StartsPrometheus
) -> None:
    running = prometheus(scraping(stator, "3"), "3")
    eventually(lambda: all_are_up(running, "3"))
    kept = collected(*ABROAD, common="läden", shared=())
    escaped = {
        frozenset({("__name__", "l_den_besuche_heute"), ("gr__e_1", "ß")}): bits(1.5),
        frozenset({("__name__", "l_den__quoted_____a____s__C_total"), ("_k_______", "v")}): bits(2.0),
    }
    for job in ("default", *KNOWN["3"]):
        utf8 = job in ("default", "OpenMetricsText1.0.0", "PrometheusText1.0.0")
        assert stored(running.query(f'{{job="{job}",__name__=~"l.+den_(?s:.)+"}}')) == (kept if utf8 else escaped), job


@pytest.mark.parametrize("version", STALE_AT_ONCE)
def test_a_series_that_is_gone_is_stale_at_the_next_scrape(
    stator: Program, prometheus: StartsPrometheus, tmp_path: Path, version: str
) -> None:
    running = prometheus(scraping(stator, version), version)
    jobs = "|".join(STALE_AT_ONCE[version])
    eventually(lambda: len(running.query(f'exotic_here{{job=~"{jobs}"}}')) == len(STALE_AT_ONCE[version]))
    (tmp_path / GONE).touch()
    # Otherwise it would be there for five minutes.
    eventually(lambda: running.query(f'exotic_here{{job=~"{jobs}"}}') == [], within=5)
    assert len(running.query(f'exotic_build_info{{job=~"{jobs}"}}')) == len(STALE_AT_ONCE[version])


def test_promtool_has_nothing_to_say(promtool: Promtool) -> None:
    verdict = promtool.check_metrics(exposed(Exotic().collect(0.0), format_=TEXT_0_0_4))
    assert verdict == (0, "")
