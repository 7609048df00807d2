"""Durations read and print as Go's do; the cases are those of its documentation and tests."""

import pytest

from stator.settings.duration import LONGEST, Duration

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("5s", 5 * SECOND),
        ("1478s", 1478 * SECOND),
        ("5.6s", 5_600_000_000),
        ("5.s", 5 * SECOND),
        (".5s", SECOND // 2),
        ("1.0040s", 1_004_000_000),
        ("10ns", 10),
        ("11us", 11_000),
        ("12µs", 12_000),
        ("12μs", 12_000),
        ("13ms", 13_000_000),
        ("15m", 15 * MINUTE),
        ("16h", 16 * HOUR),
        ("3h30m", 3 * HOUR + 30 * MINUTE),
        ("10.5s4m", 4 * MINUTE + 10_500_000_000),
        ("1h2m3s4ms5us6ns", HOUR + 2 * MINUTE + 3_004_005_006),
        ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14_425_000_000),
        ("9007199254740993ns", 9_007_199_254_740_993),
        ("0.830103483285477580700h", 49 * MINUTE + 48_372_539_827),
        ("9223372036854775807ns", LONGEST),
    ],
)
def test_reads_what_go_reads(text: str, nanoseconds: int) -> None:
    assert Duration.parse(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "3", "00", "s", ".", ".s", "1d", "1 s", "1s ", "1S", "1e3s", "1_000s", "1..5s", "1m30", "٣s"),
        *("-5s", "-", "1m-30s", "soon", "9223372036854775808ns", "2562048h", "9" * 5000 + "s"),
    ],
)
def test_refuses_what_is_no_duration_or_too_long_for_go(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (250_000_000, "250ms"),
        (3_300_000_000, "3.3s"),
        (MINUTE, "1m0s"),
        (4 * MINUTE + 5 * SECOND, "4m5s"),
        (4 * MINUTE + 5_001_000_000, "4m5.001s"),
        (8 * MINUTE + 1, "8m0.000000001s"),
        (30 * MINUTE, "30m0s"),
        (HOUR, "1h0m0s"),
        (5 * HOUR + 6 * MINUTE + 7_001_000_000, "5h6m7.001s"),
        (LONGEST, "2562047h47m16.854775807s"),
    ],
)
def test_prints_as_go_prints(nanoseconds: int, text: str) -> None:
    assert str(Duration(nanoseconds)) == text


@pytest.mark.parametrize(
    "text", ["0s", "10s", "1m", "10m", "1m30s", "1h", "1h30m", "1h0m30s", "10h10m", "250ms", "1h2m0.5s"]
)
def test_is_brief_as_a_person_would_write_it(text: str) -> None:
    assert Duration.parse(text).brief == text


def test_has_its_seconds() -> None:
    assert Duration.parse("1m30.25s").seconds == 90.25


def test_is_readable_in_a_repr() -> None:
    assert repr(Duration.parse("90s")) == "Duration('1m30s')"
