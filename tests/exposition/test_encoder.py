"""What is kept from one exposition to the next."""

import gc

import pytest

from stator.exposition.encoder import Encoder
from stator.exposition.openmetrics import OPENMETRICS
from stator.exposition.template import Template
from stator.points import Histogram, Labels, Point, PointError, PointsAt
from tests.exposition.exposing import exposed, written
from tests.exposition.points import ABROAD, SHOP


def gauges(*labels: Labels, value: float = 1.5) -> PointsAt:
    return PointsAt("a", 0.0, points=[Point("b", "d", value, labels=each) for each in labels])


ONE, TWO = (("k", "1"),), (("k", "2"),)
SEQUENCES = {
    "new values": [gauges(ONE, TWO), gauges(ONE, TWO, value=2.5)],
    "a new series": [gauges(ONE), gauges(ONE, TWO)],
    "a series less": [gauges(ONE, TWO), gauges(TWO)],
    "nothing and back": [gauges(ONE), gauges(), gauges(ONE)],
    "another order": [gauges(ONE, TWO), gauges(TWO, ONE)],
    "other labels": [gauges(ONE), gauges((("l", "1"),))],
    "another name": [gauges(ONE), PointsAt("c", 0.0, points=gauges(ONE).points)],
    "another label in common": [gauges(ONE), PointsAt("a", 0.0, (("m", "1"),), gauges(ONE).points)],
    "another type": [gauges(ONE), PointsAt("a", 0.0, points=[Point("b", "d", 1, type="counter", labels=ONE)])],
    "another description": [gauges(ONE), PointsAt("a", 0.0, points=[Point("b", "e", 1, labels=ONE)])],
    "another unit": [gauges(ONE), PointsAt("a", 0.0, points=[Point("b", "d", 1, unit="s", labels=ONE)])],
    "other bounds": [
        PointsAt("a", 0.0, points=[Point("b", "", Histogram(buckets, 1.0, 3), type="histogram")])
        for buckets in (((1, 2),), ((2, 2),), ((1, 1), (2, 2)), ())
    ],
}


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_a_later_exposition_is_as_a_first(sequence: list[PointsAt]) -> None:
    formatter = Encoder(OPENMETRICS, timestamps=False)
    for points_at in sequence:
        assert written(formatter, SHOP, points_at) == exposed(SHOP, points_at, dialect=OPENMETRICS)


def test_sources_that_come_and_go_leave_the_others_as_they_are() -> None:
    formatter = Encoder(OPENMETRICS, timestamps=False)
    for sources in ((SHOP, ABROAD), (SHOP,), (ABROAD, SHOP), (), (SHOP, gauges(ONE), ABROAD)):
        assert written(formatter, *sources) == exposed(*sources, dialect=OPENMETRICS)


def layouts() -> int:
    gc.collect()
    return sum(isinstance(each, Template) for each in gc.get_objects())


def test_only_the_last_layout_of_each_source_is_kept() -> None:
    before = layouts()
    formatter = Encoder(OPENMETRICS, timestamps=False)
    for nth in range(10):
        written(formatter, SHOP, gauges((("k", str(nth)),)))
        assert layouts() - before == 2
    with pytest.raises(PointError):
        written(formatter, SHOP, gauges((("", ""),)))
    assert layouts() - before == 1


def test_many_points_are_written_as_few_are() -> None:
    formatter = Encoder(OPENMETRICS, timestamps=False)
    labels = [(("k", str(nth)),) for nth in range(10_000)]
    for value in (0.5, 1.5):
        lines = written(formatter, gauges(*labels, value=value)).splitlines()
        assert lines == [
            "# HELP a_b d",
            "# TYPE a_b gauge",
            *(f'a_b{{k="{nth}"}} {value}' for nth in range(10_000)),
            "# EOF",
        ]
