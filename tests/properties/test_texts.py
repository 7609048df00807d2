"""Whatever a target sends, it's read or refused."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from stator.collectors import _families
from stator.collectors._texts import BadTextError, decoded, openmetrics_families, text_families

LIKELY = st.sampled_from(
    [
        "# TYPE a counter",
        "# TYPE a histogram",
        "# TYPE a gaugehistogram",
        "# TYPE a summary",
        "# TYPE a info",
        "# TYPE a stateset",
        '# TYPE "a b" gauge',
        "# UNIT a_seconds seconds",
        "# HELP a b",
        "a_total 1",
        'a_total 1 # {trace_id="b"} 1 2',
        "a_total 1 2",
        'a_bucket{le="1.0"} 1',
        'a_bucket{le="+Inf"} 1 # {} 1',
        'a{quantile="0.5"} 1',
        'a{a="b"} 1',
        "a_sum NaN",
        "a_count 1",
        "a_created 1",
        'a_info{b="c"} 1',
        '{"a b",c="d"} 1',
        "a {count:1,sum:1,schema:1,zero_threshold:0,zero_count:0}",
        "# EOF",
    ]
)


@given(st.lists(LIKELY | st.text()).map("\n".join).map(lambda text: f"{text}\n# EOF\n".encode()) | st.binary())
@example(b"# TYPE a histogram\na {count:1\n# EOF\n")
@example(b'# TYPE a histogram\na_bucket{le="1.0"} 1\n# EOF\n')
def test_a_text_gives_points_or_a_reason(data: bytes) -> None:
    for families in (openmetrics_families, text_families):
        with suppress(BadTextError):
            assert all(point.name for point in _families.points(families(decoded(data))))
