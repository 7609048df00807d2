"""Whatever stands in a text file, it's read or refused."""

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from stator.collectors._texts import BadTextError
from stator.collectors.textfile import parse

LIKELY = st.sampled_from(
    [
        "# TYPE a counter",
        "# TYPE a_total counter",
        "# TYPE a histogram",
        '# TYPE "a b" counter',
        "# HELP a",
        "#",
        "a 1",
        'a{b="c"} NaN',
        'a_bucket{le="1"} 1',
        "a_sum 1",
        "a_count 1",
        '{"a b",c="d"} 1',
        "a 1 2",
        "a{",
        'a{b="',
        '{"a',
        '# HELP "a',
        "a 1 # {} 1",
        'a{b="c",} 1_0',
    ]
)


@given(st.lists(LIKELY | st.text()).map("\n".join).map(lambda text: f"{text}\n".encode()) | st.binary())
@example(b"# TYPE\n")
@example(b'{"\n')
def test_a_file_gives_points_or_a_reason(data: bytes) -> None:
    with suppress(BadTextError):
        assert all(point.name and point.desc for point in parse(data, "a.prom"))
