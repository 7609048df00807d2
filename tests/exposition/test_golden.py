"""Whole expositions equal the files in golden/."""

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8
from tests.exposition.exposing import exposed
from tests.exposition.points import ABROAD, SHOP

GOLDEN = Path(__file__).with_name("golden")
FORMATS = {
    "text-0.0.4": TEXT_0_0_4,
    "text-1.0.0": TEXT_1_0_0,
    "text-1.0.0-utf8": TEXT_1_0_0_UTF8,
    "openmetrics": OPENMETRICS,
    "openmetrics-utf8": OPENMETRICS_UTF8,
}
EVERY_FORMAT = pytest.mark.parametrize(("name", "format_"), FORMATS.items(), ids=FORMATS)


@EVERY_FORMAT
def test_a_whole_exposition_is_its_golden_file(name: str, format_: Format) -> None:
    # With times only in the oldest format, as by default.
    text = exposed(SHOP, ABROAD, format_=format_, timestamps=format_ is TEXT_0_0_4)
    assert text.encode() == (GOLDEN / f"{name}.txt").read_bytes()


@EVERY_FORMAT
def test_a_reader_finds_as_many_samples_in_a_golden_file_as_it_has_lines(name: str, format_: Format) -> None:
    text = (GOLDEN / f"{name}.txt").read_bytes().decode()
    families = list((read_text if "text/plain" in format_.content_type else read_openmetrics)(text))
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert sum(len(family.samples) for family in families) == len(lines)
    assert len({family.name for family in families}) == text.count("# TYPE ")


def test_times_are_seconds_in_openmetrics_and_milliseconds_in_text() -> None:
    text = exposed(SHOP, format_=OPENMETRICS, timestamps=True)
    assert set(re.findall(r" (\S+)\n(?!#)", text)) >= {"1795449820.436"}
    assert " 1795449820436\n" in exposed(SHOP, timestamps=True)
