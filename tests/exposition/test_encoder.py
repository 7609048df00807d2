"""An encoder that keeps templates encodes as a new one does."""

import tracemalloc
from types import MappingProxyType

import pytest

from stator.exposition.encoder import Encoder
from stator.exposition.openmetrics import OPENMETRICS
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
    "a mapping of the same labels": [gauges(ONE), gauges(dict(ONE), value=2.5), gauges(ONE)],
    "a mapping of other labels": [gauges(ONE), gauges(dict(TWO)), gauges(dict(ONE))],
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
def test_a_later_exposition_equals_a_first_one(sequence: list[PointsAt]) -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    for points_at in sequence:
        assert written(encoder, SHOP, points_at) == exposed(SHOP, points_at, format_=OPENMETRICS)


def test_sources_that_come_and_go_leave_the_others_as_they_are() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    for sources in ((SHOP, ABROAD), (SHOP,), (ABROAD, SHOP), (), (SHOP, gauges(ONE), ABROAD)):
        assert written(encoder, *sources) == exposed(*sources, format_=OPENMETRICS)


def test_families_of_a_bad_source_that_come_and_go_take_no_memory() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    for nth in range(9):
        names = (f"good{nth}", "kept", *(["bad name"] if nth < 8 else []))
        points = [Point(name, "", 1, labels=(("" if "bad" in name else "k", "v"),)) for name in names]
        errors = encoder.exposition().add_families("source", PointsAt("", 0.0, points=points))
        assert len(errors) == (nth < 8)
    assert (list(encoder.templates), encoder.apart) == ([], {})


def test_labels_that_come_and_go_take_no_memory() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)

    def grown(rounds: range) -> int:
        """The bytes that stay in memory after expositions with new labels each time."""
        before = tracemalloc.get_traced_memory()[0]
        for nth in rounds:
            written(encoder, SHOP, gauges(*((("k", f"{nth} {each}"),) for each in range(100))))
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        first, later = grown(range(1)), grown(range(1, 50))
    finally:
        tracemalloc.stop()
    assert later < first


def test_a_source_that_fails_takes_no_memory() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    labels = [(("k", str(nth)),) for nth in range(1000)]
    tracemalloc.start()
    try:
        written(encoder, gauges(*labels))
        kept = tracemalloc.get_traced_memory()[0]
        with pytest.raises(PointError):
            written(encoder, gauges((("", ""),)))
        assert tracemalloc.get_traced_memory()[0] < kept / 2
    finally:
        tracemalloc.stop()


def test_labels_may_be_a_mapping() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    labels = {"k": "1", "l": "2"}
    for value in (1.5, 2.5):
        points_at = PointsAt("a", 0.0, {"m": "3"}, [Point("b", "d", value, labels=MappingProxyType(labels))])
        assert f'a_b{{m="3",k="1",l="2"}} {value}' in written(encoder, points_at).splitlines()
    labels["k"] = "changed in place"
    assert 'a_b{m="3",k="changed in place",l="2"} 2.5' in written(encoder, points_at).splitlines()


def test_points_may_be_any_iterable() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    for value in (1.5, 2.5):
        points = (Point("b", "d", value, labels=labels) for labels in (ONE, TWO))
        assert written(encoder, PointsAt("a", 0.0, points=points)) == exposed(
            gauges(ONE, TWO, value=value), format_=OPENMETRICS
        )


def test_many_points_are_written_as_few_points_are() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    labels = [(("k", str(nth)),) for nth in range(10_000)]
    for value in (0.5, 1.5):
        lines = written(encoder, gauges(*labels, value=value)).splitlines()
        assert lines == [
            "# HELP a_b d",
            "# TYPE a_b gauge",
            *(f'a_b{{k="{nth}"}} {value}' for nth in range(10_000)),
            "# EOF",
        ]
