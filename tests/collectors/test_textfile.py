"""Families in text files."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stator.collectors.textfile import Textfile, TextfileConfig
from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8
from stator.points import Histogram, Point, PointsAt, Summary
from tests.captured_log import CapturedLog
from tests.collectors.contexts import context
from tests.exposition.exposing import exposed, written

Values = dict[str, Any]
BOUNDS = """\
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="2.50"} 2
h_bucket{le="1e3"} 3
h_bucket{le="+Inf"} 3
h_sum 4
h_count 3
# TYPE s summary
s{quantile="0.50"} 1
s{quantile=".99"} 2
s_sum 3
s_count 2
"""


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as story:
        yield story


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    return folder


def of(story: CapturedLog, *paths: Path | str) -> Textfile:
    """A collector of the files in these folders."""
    return TextfileConfig(tuple(map(str, paths))).build(context(log=story.log))


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """Writes a file as a good program does: whole, and then in its place."""
    file = folder / f"{name}.prom"
    beside = folder / f"{name}.new"
    beside.write_bytes(text.encode() if isinstance(text, str) else text)
    beside.rename(file)
    return file


def points(collector: Textfile) -> list[Point]:
    return list(collector.collect(0.0).points)


def values(collector: Textfile) -> Values:
    """Values by name; those of our own that differ with each run are left out."""
    found = {point.name: point.value for point in points(collector)}
    found.pop("node_textfile_mtime_seconds", None)
    return found


def reasons(story: CapturedLog) -> dict[str, str]:
    """The logged reason of each file, by its name."""
    return {Path(line["file"]).name: line["reason"] for line in story.lines_with("failed to read a text file")}


def exposed_text(text: str, story: CapturedLog, folder: Path, dialect: Format = TEXT_0_0_4) -> str:
    """How families of a file are exposed."""
    write(folder, "a", text)
    ours = [point for point in points(of(story, folder)) if not point.name.startswith("node_textfile")]
    return exposed(PointsAt("", 0.0, points=ours), format_=dialect)


def test_families_of_all_types_keep_names_labels_and_descriptions(story: CapturedLog, folder: Path) -> None:
    text = """\
# HELP jobs_done_total Jobs \\\\ "done"\\nso far
# TYPE jobs_done_total counter
jobs_done_total{queue="a \\"b\\"\\\\"} 3
jobs_done_total{queue="c"} 4

# HELP depth d
# TYPE depth gauge
depth NaN

# HELP wait_seconds w
# TYPE wait_seconds histogram
wait_seconds_bucket{host="h",le="0.1"} 1
wait_seconds_bucket{host="h",le="1e+06"} 2
wait_seconds_bucket{host="h",le="+Inf"} 3
wait_seconds_sum{host="h"} 4.5
wait_seconds_count{host="h"} 3

# HELP size s
# TYPE size summary
size{quantile="0.5"} 1
size_sum 3
size_count 2

# HELP odd o
# TYPE odd untyped
odd -1
"""
    assert exposed_text(text, story, folder).strip() == text.strip()
    assert story.text == ""


@pytest.mark.parametrize(
    ("lines", "type_"),
    [
        ("# TYPE a GAUGE\na 1\n", "gauge"),
        ("# TYPE a Counter\na 1\n", "counter"),
        ("# TYPE a UNTYPED\na 1\n", "untyped"),
        ("#TYPE a gauge\n#HELP a So far\na 1\n", "gauge"),
        ("\t#\tTYPE \t a\tcounter\na\t1\n", "counter"),
        ("# TYPE a gauge\r\na 1\r\n", "gauge"),
        ("# TYPE\n# TYPE a\n#\n#a\na 1\n", "untyped"),
        ("# HELP a One\n# TYPE a gauge\n# HELP a Two\na 1\n", "gauge"),
    ],
)
def test_types_are_taken_as_node_exporter_takes_them(story: CapturedLog, folder: Path, lines: str, type_: str) -> None:
    text = exposed_text(lines, story, folder).splitlines()
    assert reasons(story) == {}
    assert text[-2:] == [f"# TYPE a {type_}", "a 1"]


@pytest.mark.parametrize("dialect", [TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8])
def test_bounds_and_quantiles_stand_as_the_file_has_them(story: CapturedLog, folder: Path, dialect: Format) -> None:
    text = exposed_text(BOUNDS, story, folder, dialect)
    assert [line for line in text.splitlines() if "{" in line] == [line for line in BOUNDS.splitlines() if "{" in line]


def test_bounds_and_quantiles_are_canonical_in_openmetrics(story: CapturedLog, folder: Path) -> None:
    text = exposed_text(BOUNDS, story, folder, OPENMETRICS)
    assert re.findall(r'(?:le|quantile)="(.*?)"', text) == ["1.0", "2.5", "1000.0", "+Inf", "0.5", "0.99"]


def test_bounds_that_the_file_writes_in_another_way_are_exposed_so(story: CapturedLog, folder: Path) -> None:
    encoder, collector = Encoder(TEXT_0_0_4, timestamps=False), of(story, folder)
    for bound in ("1", "1.0"):
        write(folder, "a", BOUNDS.replace('"1"', f'"{bound}"'))
        assert f'h_bucket{{le="{bound}"}} 1\n' in written(encoder, collector.collect(0.0))


@pytest.mark.parametrize("bound", ["1_0", " 1", "one", "NaN"])
def test_bounds_that_are_no_numbers_make_no_histogram(story: CapturedLog, folder: Path, bound: str) -> None:
    lines = exposed_text(BOUNDS.replace('"1"', f'"{bound}"'), story, folder).splitlines()
    assert f'h_bucket{{le="{bound}"}} 1' in lines
    assert "# TYPE h_bucket untyped" in lines


def test_a_histogram_and_a_summary_are_read_as_such(story: CapturedLog, folder: Path) -> None:
    write(
        folder,
        "a",
        '# TYPE h histogram\nh_count{a="1"} 3\nh_bucket{le="+Inf",a="1"} 3\nh_bucket{a="1",le="1"} 2\nh_sum{a="1"} 4\n'
        '# TYPE s summary\ns{quantile="0.9"} 2\ns{quantile="0.5"} 1\ns_sum 3\ns_count 2\n',
    )
    found = {point.name: (point.labels, point.value) for point in points(of(story, folder))}
    assert found["h"] == ((("a", "1"),), Histogram((("1", 2),), 4, 3))
    assert found["s"] == ((), Summary((("0.5", 1), ("0.9", 2)), 3, 2))


@pytest.mark.parametrize(("dialect", "type_"), [(TEXT_0_0_4, "counter"), (OPENMETRICS, "unknown")])
def test_a_counter_without_total_keeps_its_name_in_every_format(
    story: CapturedLog, folder: Path, dialect: Format, type_: str
) -> None:
    lines = exposed_text("# TYPE jobs counter\njobs 3\n", story, folder, dialect).splitlines()
    assert f"# TYPE jobs {type_}" in lines
    assert "jobs 3" in lines


def test_a_family_without_type_or_description_is_exposed_as_such(story: CapturedLog, folder: Path) -> None:
    assert exposed_text("depth 1\n", story, folder).splitlines() == [
        "",
        f"# HELP depth Metric read from {folder}/a.prom",
        "# TYPE depth untyped",
        "depth 1",
    ]


def test_samples_that_contradict_their_type_are_unknown(story: CapturedLog, folder: Path) -> None:
    text = '# TYPE down counter\ndown -1\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\n'
    families = {family.name: family for family in text_string_to_metric_families(exposed_text(text, story, folder))}
    assert {name: family.type for name, family in families.items()} == dict.fromkeys(
        ("down", "h_bucket", "h_sum"), "unknown"
    )
    assert [sample.labels for sample in families["h_bucket"].samples] == [{"le": "1"}, {"le": "+Inf"}]


def test_samples_of_a_family_need_not_stand_together(story: CapturedLog, folder: Path) -> None:
    text = '# TYPE a gauge\na{x="1"} 1\nb 2\na{x="2"} 3\n'
    assert exposed_text(text, story, folder).count("# TYPE a gauge") == 1
    assert reasons(story) == {}


def test_files_of_several_folders_share_a_family(story: CapturedLog, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(folder, "one", 'a{from="one"} 1\n')
    write(other, "two", 'a{from="two"} 2\n')
    collector = of(story, folder, other)
    assert [dict(point.labels)["from"] for point in points(collector) if point.name == "a"] == ["one", "two"]


def test_thousands_of_files_may_share_a_family(story: CapturedLog, folder: Path) -> None:
    for number in range(1000):
        write(folder, f"{number:03}", f'# TYPE jobs gauge\njobs{{queue="{number}"}} 1\n')
    write(folder, "twice", '# TYPE jobs gauge\njobs{queue="7"} 1\n')
    found = points(of(story, folder))
    assert sum(point.name == "jobs" for point in found) == 1000
    assert reasons(story) == {"twice.prom": 'jobs{queue="7"} appears twice'}


def test_a_file_that_is_too_big_is_logged_and_the_rest_served(story: CapturedLog, folder: Path) -> None:
    log = write(folder, "log", "")
    with log.open("wb") as file:
        file.truncate(1 << 32)
    write(folder, "good", "good 1\n")
    assert values(of(story, folder)) == {"good": 1, "node_textfile_scrape_error": 1}
    assert reasons(story) == {"log.prom": "it has more than 64 MiB"}


def test_only_prom_files_are_read_and_each_once(story: CapturedLog, folder: Path) -> None:
    write(folder, "a", "a 1\n")
    write(folder, ".hidden", "hidden 1\n")
    (folder / "b.prom.tmp").write_text("b 1")
    assert values(of(story, folder, f"{folder}/", folder.parent / "te*")) == {
        "a": 1,
        "hidden": 1,
        "node_textfile_scrape_error": 0,
    }


def test_a_pattern_names_folders_that_come_later(story: CapturedLog, tmp_path: Path) -> None:
    collector = of(story, tmp_path / "*/metrics")
    assert values(collector) == {"node_textfile_scrape_error": 1}
    for name in ("one", "two"):
        (tmp_path / name / "metrics").mkdir(parents=True)
        write(tmp_path / name / "metrics", "m", f"{name} 1\n")
    assert values(collector) == {"one": 1, "two": 1, "node_textfile_scrape_error": 0}


def test_each_files_time_is_reported(story: CapturedLog, folder: Path) -> None:
    file = write(folder, "a", "")
    os.utime(file, (1.5, 2.5))
    (point, _) = points(of(story, folder))
    assert (point.name, point.labels, point.value) == ("node_textfile_mtime_seconds", (("file", str(file)),), 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a 1\nb one\n", "line 2 is not in Prometheus' text format: could not convert string to float: 'one'"),
        ("# TYPE a!b gauge\n", "line 1 is not in Prometheus' text format"),
        ("a 1\n# TYPE a gauge\n", "a is a unknown first and a gauge later"),
        ('a{b="c} 1\n', "line 1 is not in Prometheus' text format"),
        ("# TYPE a speed\na 1\n", "is not in Prometheus' text format: Invalid metric type: speed"),
        ("a 1", "its last line has no end: is it still being written?"),
        (b"k\xe4fer 1\n", "it's not UTF-8"),
        ("a 1\nb 1 1700000000000\n", "b has a timestamp, and must have none"),
        ("a 1\na 2\n", "a appears twice"),
        ("# TYPE a gauge\na 1\nb 1\n# TYPE a summary\na_sum 1\n", "a is a gauge first and a summary later"),
        ('# TYPE h histogram\nh_bucket{le="x"} 1\nh_bucket{le="x"} 1\n', 'h_bucket{le="x"} appears twice'),
        ('a{__name__="b"} 1\n', "is not in Prometheus' text format"),
        (f"a 1 {'9' * 400}\n", "line 1 is not in Prometheus' text format"),
        (f"a {'9' * 400}\n", "a has a number that is larger than any that Prometheus reads"),
        (f'a{{b="{"x" * (1 << 16)}"}} 1\n', "a line has more than 65,536 characters"),
        ("node_textfile_scrape_error 0\n", "node_textfile_scrape_error: its type unknown is not that of its family"),
    ],
)
def test_a_bad_file_fails_alone_and_the_log_says_why(
    story: CapturedLog, folder: Path, text: str | bytes, why: str
) -> None:
    file = write(folder, "bad", text)
    write(folder, "good", "good 1\n")
    found = points(of(story, folder))
    assert [point.name for point in found] == ["good", "node_textfile_mtime_seconds", "node_textfile_scrape_error"]
    assert (found[1].labels, found[2].value) == ((("file", str(folder / "good.prom")),), 1)
    (line,) = story.lines_with("failed to read a text file")
    assert (line["level"], line["file"]) == ("error", str(file))
    assert why in line["reason"]


def test_of_two_files_that_conflict_the_later_fails(story: CapturedLog, folder: Path) -> None:
    write(folder, "a", "# TYPE x gauge\nx 1\n")
    write(folder, "b", "# TYPE x counter\nx 2\ny 3\n")
    write(folder, "c", "# TYPE x gauge\nx 1\n")
    assert values(of(story, folder)) == {"x": 1, "node_textfile_scrape_error": 1}
    assert reasons(story) == {
        "b.prom": "x: its type counter is not that of its family, gauge",
        "c.prom": "x appears twice",
    }


def test_what_can_not_be_read_is_logged_and_the_rest_served(story: CapturedLog, folder: Path, tmp_path: Path) -> None:
    (folder / "gone.prom").symlink_to("nowhere")
    (folder / "folder.prom").mkdir()
    os.mkfifo(folder / "pipe.prom")
    write(folder, "good", "good 1\n")
    collector = of(story, folder, tmp_path / "missing", tmp_path / "log")
    assert values(collector) == {"good": 1, "node_textfile_scrape_error": 1}
    assert reasons(story) == {
        "gone.prom": "No such file or directory",
        "folder.prom": "it's no file",
        "pipe.prom": "it's no file",
        "missing": "No such file or directory",
        "log": "Not a directory",
    }


def test_a_file_with_a_name_that_is_no_text_is_logged_and_the_rest_served(story: CapturedLog, folder: Path) -> None:
    write(folder, "good", "good 1\n")
    Path(os.fsdecode(os.fsencode(folder) + b"/k\xe4fer.prom")).write_text("bad 1\n")
    assert values(of(story, folder)) == {"good": 1, "node_textfile_scrape_error": 1}
    assert reasons(story) == {"k\ufffdfer.prom": "its name is not UTF-8"}


def test_a_failure_is_logged_once_for_each_change_of_its_file(story: CapturedLog, folder: Path) -> None:
    collector = of(story, folder, folder / "missing")
    write(folder, "a", "bad\n")
    for _ in range(3):
        collector.collect(0.0)
        write(folder, "b", "b 1\n")
    assert reasons(story).keys() == {"a.prom", "missing"}
    assert len(story.lines) == 2
    write(folder, "a", "bad again\n")
    for _ in range(3):
        collector.collect(0.0)
    assert len(story.lines) == 3


def test_files_that_change_come_and_go_are_seen_at_the_next_scrape(story: CapturedLog, folder: Path) -> None:
    collector = of(story, folder)
    assert values(collector) == {"node_textfile_scrape_error": 0}
    file = write(folder, "a", "a 1\n")
    assert values(collector)["a"] == 1
    write(folder, "a", "a 2\n")
    assert values(collector)["a"] == 2
    file.unlink()
    assert values(collector) == {"node_textfile_scrape_error": 0}


def test_a_file_that_was_mended_is_served_again(story: CapturedLog, folder: Path) -> None:
    collector = of(story, folder)
    write(folder, "a", "a\n")
    assert values(collector) == {"node_textfile_scrape_error": 1}
    write(folder, "a", "a 1\n")
    assert values(collector) == {"a": 1, "node_textfile_scrape_error": 0}


def test_a_file_that_did_not_change_is_not_read_again(story: CapturedLog, folder: Path) -> None:
    write(folder, "a", "a NaN\n")
    collector = of(story, folder)
    before = points(collector)[0]
    assert math.isnan(before.value)  # type: ignore[arg-type] # a plain number
    assert points(collector)[0] is before
