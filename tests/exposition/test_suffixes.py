"""A gauge `x` beside a counter `x_total`, as every Go program has them: one family in OpenMetrics, two in text."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0
from stator.points import Point, PointsAt

GO = [
    Point("alloc_bytes_total", "All bytes so far", 2, "counter"),
    Point("alloc_bytes", "Bytes now", 1),
    Point("build_info", "The build", 1, "info", labels=(("version", "1"),)),
    Point("build", "A number", 3),
]


def lines(encoder: Encoder, points: list[Point]) -> set[str]:
    exposition = encoder.exposition()
    assert not exposition.add_families("go", PointsAt("", 0.0, points=points))
    text = b"".join(exposition.pieces()).decode()
    if encoder.format is OPENMETRICS:
        assert list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call] # it has no types
    return {line for line in text.splitlines() if line.startswith(("# TYPE", "a", "b"))}


@pytest.mark.parametrize("format_", [TEXT_0_0_4, TEXT_1_0_0], ids=["0.0.4", "1.0.0"])
def test_in_text_both_keep_their_types(format_: Format) -> None:
    encoder = Encoder(format_, timestamps=False)
    assert lines(encoder, GO) == {
        *("# TYPE alloc_bytes_total counter", "alloc_bytes_total 2", "# TYPE alloc_bytes gauge", "alloc_bytes 1"),
        *("# TYPE build_info gauge", 'build_info{version="1"} 1', "# TYPE build gauge", "build 3"),
    }


def test_in_openmetrics_the_counter_loses_its_type_alone() -> None:
    encoder = Encoder(OPENMETRICS, timestamps=False)
    for _ in range(2):
        assert lines(encoder, GO) == {
            *("# TYPE alloc_bytes_total unknown", "alloc_bytes_total 2", "# TYPE alloc_bytes gauge", "alloc_bytes 1"),
            *("# TYPE build_info unknown", 'build_info{version="1"} 1', "# TYPE build gauge", "build 3"),
        }
    assert lines(encoder, GO[:1]) == {"# TYPE alloc_bytes counter", "alloc_bytes_total 2"}
