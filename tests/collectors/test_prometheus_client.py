"""Stator exposes an application's prometheus_client metrics as the library itself does."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    generate_latest,
)
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, UntypedMetricFamily
from prometheus_client.metrics_core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from stator.collectors.prometheus_client import PrometheusClient, PrometheusClientConfig
from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.openmetrics import OPENMETRICS
from stator.exposition.text import TEXT_0_0_4
from stator.settings.declare import StartError
from tests.captured_log import CapturedLog
from tests.collectors.contexts import context
from tests.exposition.exposing import exposed
from tests.program import ROOT

Series = tuple[str, frozenset[tuple[str, str]]]
# Families whose values differ from scrape to scrape.
VOLATILE = ("process_", "python_gc_")


def samples(text: str) -> dict[Series, float]:
    """Every sample of an exposition: none may come twice."""
    # Without types, since the reader calls samples of counters as it thinks right.
    bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    found = [
        ((sample.name, frozenset(sample.labels.items())), sample.value)
        for family in read_text(bare)
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def types(text: str) -> dict[str, str]:
    """Each family's type, as it is written."""
    lines = (line.split() for line in text.splitlines() if line.startswith("# TYPE "))
    return {name: type_ for _, _, name, type_ in lines}


def instrumented(*, odd: bool = True) -> CollectorRegistry:
    """A registry with a metric of each type."""
    registry = CollectorRegistry()
    requests = Counter("requests", 'So "far" \\ until\nnow', ["method", "path"], registry=registry)
    requests.labels("GET", 'a "b" \\ c\nd').inc(3, exemplar={"trace": "x"})
    requests.labels("PUT", "ü").inc()
    Counter("never", "Has labels that nobody has seen yet", ["a"], registry=registry)
    Gauge("depth", "d", ["zone", "area"], unit="bytes", registry=registry).labels("z", "a").set(-1.5)
    waits = Histogram("wait_seconds", "w", ["host"], buckets=[0.1, 1, 2.5e6, 1e16], registry=registry)
    for host in ("a", "b"):
        waits.labels(host).observe(0.5)
        waits.labels(host).observe(1e7, {"trace": "y"})
    Histogram("drift", "Has no sum", buckets=[-1, 1], registry=registry).observe(-3)
    Summary("size", "s", unit="bytes", registry=registry).observe(7)
    Info("build", "b", registry=registry).info({"version": "1.2", "commit": "abc"})
    Enum("state", "e", states=["starting", "running"], registry=registry).state("running")
    if odd:
        registry.register(Odd())
    return registry


class Odd(Collector):
    """Families that only an application's own collectors return."""

    def collect(self) -> Iterable[Metric]:
        yield GaugeHistogramMetricFamily("wide", "w", buckets=[("1.0", 2), ("+Inf", 3)], gsum_value=4)
        yield UntypedMetricFamily("odd", "o", value=float("nan"))
        yield CounterMetricFamily("back", "Runs backwards", value=-2)
        summary = SummaryMetricFamily("quantiles", "q", count_value=2, sum_value=3)
        summary.add_sample("quantiles", {"quantile": "0.5"}, 1.5)
        yield summary
        bare = Metric("bare", "A counter without total", "counter")
        bare.add_sample("bare", {}, 4)
        yield bare
        timed = GaugeMetricFamily("timed", "t")
        timed.add_metric([], 5, timestamp=1.5e9)
        yield timed


def ours(registry: CollectorRegistry) -> str:
    return exposed(PrometheusClient(registry).collect(1.5))


def comparable(found: dict[Series, float]) -> dict[Series, str]:
    return {series: repr(float(value)) for series, value in found.items()}  # NaN is itself only as a text


def test_samples_are_those_of_the_library_itself() -> None:
    registry = instrumented()
    theirs = generate_latest(registry).decode().replace("timed 5.0 1500000000000", "timed 5.0")
    assert comparable(samples(ours(registry))) == comparable(samples(theirs))


def test_types_are_those_of_the_library_itself_where_they_are_true() -> None:
    registry = instrumented()
    theirs, mine = types(generate_latest(registry).decode()), types(ours(registry))
    differing = {name: (type_, mine.get(name)) for name, type_ in theirs.items() if mine.get(name) != type_}
    assert differing == {
        "never_total": ("counter", None),  # has no samples
        "drift": ("histogram", None),  # has no sum, so its samples stand alone
        "wide": ("histogram", None),  # a gauge histogram, which the text format doesn't know
        "back_total": ("counter", "untyped"),
        "bare_total": ("counter", None),  # the samples have another name
    }
    assert mine["bare"] == "counter"


def test_created_series_are_there_in_text_and_left_to_the_format_in_openmetrics() -> None:
    registry = instrumented()
    assert types(ours(registry))["requests_created"] == "gauge"
    text = exposed(PrometheusClient(registry).collect(1.5), format_=OPENMETRICS)
    families = {family.name: family for family in read_openmetrics(text)}  # type: ignore[no-untyped-call] # it has no types
    assert [sample.name for sample in families["requests"].samples] == ["requests_total"] * 2
    assert families["state"].samples[1].value == 1
    assert families["build"].type == "info"
    assert families["depth_bytes"].unit == families["size_bytes"].unit == "bytes"


def test_exemplars_are_those_of_the_library_in_openmetrics_and_nowhere_else() -> None:
    registry = instrumented(odd=False)
    ours = exposed(PrometheusClient(registry).collect(1.5), format_=OPENMETRICS)
    text: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call] # it has no types
    theirs = text.decode().splitlines(keepends=True)
    # Their histogram with bounds below zero is none to their own reader.
    assert exemplars(ours) == exemplars("".join(line for line in theirs if "drift" not in line))
    assert len(exemplars(ours)) == 3
    assert " # " not in exposed(PrometheusClient(registry).collect(1.5))


def exemplars(text: str) -> dict[Series, Any]:
    """The exemplar of each sample that has one."""
    families = read_openmetrics(text)  # type: ignore[no-untyped-call] # it has no types
    return {
        (each.name, frozenset(each.labels.items())): each.exemplar
        for family in families
        for each in family.samples
        if each.exemplar
    }


def test_an_exemplar_that_is_too_long_fails_its_family_alone(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    bad = Metric("bad", "b", "counter")
    bad.add_sample("bad_total", {}, 1, exemplar=Exemplar({"trace_id": "x" * 121}, 1))
    registry.register(Returns(gauge("first"), bad, gauge("last")))
    with CapturedLog(tmp_path / "log") as log:
        found = samples(scraped(registry, log))
        assert log.line["reason"].startswith("bad_total: an exemplar's labels have more than 128 characters")
    assert {"first", "last"} < {name for name, _ in found}


def test_created_series_are_away_where_the_application_does_not_want_them() -> None:
    code = (
        "from prometheus_client import Counter\n"
        "Counter('requests', 'r')\n"
        "from stator.collectors.prometheus_client import PrometheusClientConfig\n"
        "from tests.collectors.contexts import context\n"
        "print(*(point.name for point in PrometheusClientConfig().build(context()).collect(0.0).points))"
    )
    env = os.environ | {"PROMETHEUS_DISABLE_CREATED_SERIES": "True"}
    names = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "requests_total" in names
    assert "_created" not in names


def test_the_default_registry_is_collected_where_no_folder_is_set() -> None:
    mine = samples(exposed(PrometheusClientConfig().build(context()).collect(1.5)))
    theirs = samples(generate_latest(REGISTRY).decode())
    assert mine.keys() == theirs.keys()
    steady = [series for series in theirs if not series[0].startswith(VOLATILE)]
    assert steady
    assert {series: mine[series] for series in steady} == {series: theirs[series] for series in steady}


# What is wrong in one place


class Returns(Collector):
    """A collector of the application's own that returns what it is given, or raises it."""

    def __init__(self, *found: Any) -> None:
        self.found = found

    def collect(self) -> Iterable[Metric]:
        for each in self.found:
            if isinstance(each, Exception):
                raise each
            yield each

    def describe(self) -> Iterable[Metric]:
        return []


def gauge(name: str, value: Any = 1.0, label: Any = "v") -> Metric:
    family = Metric(name, "d", "gauge")
    family.add_sample(name, {"label": label}, value)
    return family


def scraped(registry: CollectorRegistry, log: CapturedLog, *, times: int = 3) -> str:
    """The last of some scrapes."""
    exporter = Exporter({"app": PrometheusClient(registry)}, MetricsConfig(), (), log.log, now=lambda: 1.5)
    encoder = Encoder(TEXT_0_0_4, timestamps=False)
    return [exporter.scrape(ScrapeRequest(encoder)).body.decode() for _ in range(times)][-1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ([gauge("bad", label="\ud800")], 'bad{label="\\ud800"}: its name, description and labels must be texts'),
        ([gauge("bad", label=object())], "bad{label=<object object at 0x"),
        ([gauge("bad", value="one")], "bad{label=\"v\"}: 'one' is not a number"),
        ([gauge("bad"), gauge("bad")], 'bad{label="v"} appears twice'),
        ([gauge("bad", value=object())], 'bad{label="v"}: <object object at 0x'),
        ([3], "'int' object has no attribute 'name'"),
        ([gauge("bad", label=object()), OSError("no database")], "no database"),
    ],
)
def test_one_bad_family_fails_alone_and_is_logged_once(tmp_path: Path, bad: list[Any], reason: str) -> None:
    registry = CollectorRegistry()
    Counter("before", "b", registry=registry).inc()
    registry.register(Returns(gauge("first"), *bad))
    registry.register(Returns(gauge("last")))
    with CapturedLog(tmp_path / "log") as log:
        found = samples(scraped(registry, log))
        line = log.line
    assert found["before_total", frozenset()] == 1
    assert found["first", frozenset({("label", "v")})] == 1
    assert found["stator_collector_success", frozenset({("collector", "app")})] == 0
    assert (line["msg"], line["collector"]) == ("failed to collect", "app")
    assert (line.get("reason") or line["error"]["message"]).startswith(reason)
    # The library calls no collector after one that raises.
    assert ("last" in {name for name, _ in found}) is not isinstance(bad[-1], Exception)
    assert [series for series in found if series[0] == "bad"] in ([], [("bad", frozenset({("label", "v")}))])


def test_all_processes_are_collected_from_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys\n"
        "from prometheus_client import Counter, Gauge, Histogram\n"
        "Counter('requests', 'r', ['code']).labels('200').inc(int(sys.argv[1]))\n"
        "Gauge('depth', 'd').set(2)\n"
        "Histogram('wait', 'w', ['host']).labels('h').observe(0.3)\n"
    )
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for count in ("1", "2"):
        subprocess.run([sys.executable, "-c", code, count], env=env, check=True)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call] # it has no types
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    mine = samples(exposed(PrometheusClientConfig().build(context()).collect(1.5)))
    assert mine == samples(generate_latest(registry).decode())
    assert mine["requests_total", frozenset({("code", "200")})] == 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an application, of which one process has counted three requests."""
    folder = tmp_path / "processes"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    code = "from prometheus_client import Counter, Gauge\nCounter('requests', 'r').inc(3)\nGauge('depth', 'd').set(1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return folder


BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "counter_99999.db": (lambda _: b"", "it's empty"),
    "counter_1.db": (lambda whole: whole[:2], "it's damaged"),
    "counter_2.db": (lambda whole: whole[:40], "it's damaged"),
    "counter_3.db": (lambda whole: whole[:20] + b"\xff" + whole[21:], "it's damaged"),
    "counter_4.db": (lambda _: b"not a database\n" * 99, "it's damaged"),
    "gauge_5.db": (lambda whole: whole, "it's damaged, or another program's"),
    "other.db": (lambda _: b"SQLite format 3\0" + bytes(4080), "it's damaged, or another program's"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_of_one_process_is_skipped_and_logged_once(folder: Path, tmp_path: Path, name: str) -> None:
    (good,) = folder.glob("counter_*.db")
    content, reason = BAD_FILES[name]
    (folder / name).write_bytes(content(good.read_bytes()))
    with CapturedLog(tmp_path / "log") as log:
        collector = PrometheusClientConfig().build(context(log=log.log))
        for _ in range(3):
            assert samples(exposed(collector.collect(1.5)))["requests_total", frozenset()] == 3
        assert log.line["level"] == "warning"
        assert log.line["msg"] == "skipped a file of prometheus_client that can't be read"
        assert log.line["file"] == str(folder / name)
        assert log.line["reason"].startswith(reason)
        (folder / name).unlink()
        collector.collect(1.5)
        assert len(log.lines) == 2


def test_files_of_processes_that_can_not_be_opened_are_skipped(folder: Path, tmp_path: Path) -> None:
    (folder / "counter_1.db").mkdir()
    (folder / "counter_2.db").symlink_to("counter_2.db")
    with CapturedLog(tmp_path / "log") as log:
        found = samples(exposed(PrometheusClientConfig().build(context(log=log.log)).collect(1.5)))
        reasons = {Path(line["file"]).name: line["reason"] for line in log.lines}
    assert found["requests_total", frozenset()] == 3
    assert reasons == {"counter_1.db": "Is a directory", "counter_2.db": "Too many levels of symbolic links"}


def test_files_that_are_still_without_values_and_those_of_others_are_no_trouble(folder: Path, tmp_path: Path) -> None:
    (folder / "counter_1.db").write_bytes(bytes(1 << 16))
    (folder / "notes.txt").write_text("none of the library's")
    with CapturedLog(tmp_path / "log") as log:
        found = samples(exposed(PrometheusClientConfig().build(context(log=log.log)).collect(1.5)))
        assert (found["requests_total", frozenset()], log.lines) == (3, [])


def test_a_file_that_a_process_has_begun_is_read_once_it_is_whole(folder: Path, tmp_path: Path) -> None:
    (good,) = folder.glob("counter_*.db")
    begun = folder / "counter_1.db"
    begun.touch()
    with CapturedLog(tmp_path / "log") as log:
        collector = PrometheusClientConfig().build(context(log=log.log))
        collector.collect(1.5)
        begun.write_bytes(good.read_bytes())
        assert samples(exposed(collector.collect(1.5)))["requests_total", frozenset()] == 6
        assert [line["level"] for line in log.lines] == ["warning", "info"]


def test_a_folder_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "missing"))
    with pytest.raises(StartError, match=r"PROMETHEUS_MULTIPROC_DIR='.*/missing': expected a folder"):
        PrometheusClientConfig().build(context())


def test_what_the_application_adds_later_is_seen() -> None:
    registry = instrumented()
    collector = PrometheusClient(registry)
    collector.collect(1.5)
    Gauge("late", "l", registry=registry).set(1)
    assert "late 1.0" in exposed(collector.collect(2.5)).splitlines()
