"""The format and encoding of an answer, by the scraper's Accept and Accept-Encoding headers."""

import pytest

from stator.exposition.format import Format
from stator.exposition.negotiation import choose_encoding, choose_format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8

OPEN, TEXT = "application/openmetrics-text", "text/plain"


@pytest.mark.parametrize(
    ("program", "accept", "expected"),
    [
        (
            "Prometheus 2.24",
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            TEXT_0_0_4,
        ),
        (
            "Prometheus 2.42",
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
                "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            ),
            OPENMETRICS,
        ),
        (
            "Prometheus 2.53",
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
                "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
            ),
            OPENMETRICS,
        ),
        (
            "Prometheus 3.5",
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
                "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
                "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
            ),
            OPENMETRICS_UTF8,
        ),
        (
            "Prometheus 3.5 with native histograms",
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
                "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,text/plain;version=0.0.4;q=0.3"
            ),
            OPENMETRICS,
        ),
        ("VictoriaMetrics", "text/plain;version=0.0.4;q=1,*/*;q=0.1", TEXT_0_0_4),
        ("curl", "*/*", TEXT_0_0_4),
        ("Firefox", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT_0_0_4),
        (
            "Chromium",
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
                "application/signed-exchange;v=b3;q=0.7"
            ),
            TEXT_0_0_4,
        ),
        ("none", "", TEXT_0_0_4),
    ],
)
def test_each_program_gets_the_best_format_that_it_accepts(program: str, accept: str, expected: Format) -> None:
    assert choose_format(accept) is expected, program


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (f"{OPEN};version=1.0.0", OPENMETRICS),
        (f"{OPEN};version=1.0.0;escaping=allow-utf-8", OPENMETRICS_UTF8),
        (f"{OPEN};version=1.0.0;escaping=underscores", OPENMETRICS),
        (f"{OPEN};version=1.0.0;escaping=dots", OPENMETRICS),
        (f"{OPEN};version=1.0.0;escaping=values", OPENMETRICS),
        (OPEN, OPENMETRICS),
        (f"{OPEN};version=0.0.1", TEXT_0_0_4),
        (f"{OPEN};version=2.0.0", TEXT_0_0_4),
        (f"{OPEN};version=2.0.0,{TEXT};version=1.0.0;q=0.1", TEXT_1_0_0),
        (f"{TEXT};version=1.0.0", TEXT_1_0_0),
        (f"{TEXT};version=1.0.0;escaping=allow-utf-8", TEXT_1_0_0_UTF8),
        (f"{TEXT};version=0.0.4;escaping=allow-utf-8", TEXT_0_0_4),
        (f"{TEXT};version=0.0.3", TEXT_0_0_4),
        (TEXT, TEXT_0_0_4),
        ("text/*", TEXT_0_0_4),
        ("application/*", OPENMETRICS),
        ("application/json", TEXT_0_0_4),
        # quality
        (f"{TEXT};version=1.0.0;q=0.4,{OPEN};q=0.5", OPENMETRICS),
        (f"{TEXT};version=1.0.0;q=0.5,{OPEN};q=0.4", TEXT_1_0_0),
        (f"{TEXT};version=1.0.0,{OPEN}", TEXT_1_0_0),
        (f"{OPEN},{TEXT};version=1.0.0", OPENMETRICS),
        (f"{OPEN};q=0", TEXT_0_0_4),
        (f"{OPEN};q=0.000,{TEXT};version=1.0.0;q=0.001", TEXT_1_0_0),
        (f"{OPEN};q=high", TEXT_0_0_4),
        (f"{OPEN};q=", TEXT_0_0_4),
        (f"{OPEN};q=nan", TEXT_0_0_4),
        (f"{OPEN};q=-1", TEXT_0_0_4),
        # spelling
        (f"{OPEN.upper()} ; VERSION=1.0.0 ; Q=0.5", OPENMETRICS),
        (f'{OPEN};version="1.0.0";escaping="allow-utf-8"', OPENMETRICS_UTF8),
        (f",, ;q=1,{OPEN};;version=1.0.0,", OPENMETRICS),
        ("/;=,;;==\x00é", TEXT_0_0_4),
    ],
)
def test_version_escaping_and_quality_choose_the_format(accept: str, expected: Format) -> None:
    assert choose_format(accept) is expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("deflate, gzip, br, zstd", "gzip"),
        ("gzip;q=0.5", "gzip"),
        ("gzip; q=0", "identity"),
        ("gzip;q=0.0, *", "identity"),
        ("*", "gzip"),
        ("*;q=0", "identity"),
        ("identity", "identity"),
        ("identity;q=1, *;q=0", "identity"),
        ("br", "identity"),
        ("gzip;q=very", "identity"),
        (",;,=", "identity"),
    ],
)
def test_gzip_is_used_if_it_is_accepted(accept_encoding: str, expected: str) -> None:
    assert choose_encoding(accept_encoding) == expected


def test_each_format_has_its_content_type() -> None:
    assert [each.content_type for each in (TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8, OPENMETRICS, OPENMETRICS_UTF8)] == [
        "text/plain; version=0.0.4; charset=utf-8",
        "text/plain; version=1.0.0; charset=utf-8; escaping=underscores",
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    ]
