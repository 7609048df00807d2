"""Durations are read as they are printed, and nothing else is."""

import re

from hypothesis import given
from hypothesis import strategies as st

from stator.settings.duration import LONGEST, UNITS, Duration

DURATIONS = st.integers(min_value=0, max_value=LONGEST).map(Duration)
# What a duration looks like, said another way than the parser says it.
LOOKS_LIKE_ONE = re.compile(r"0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
# Few and small enough that all together are no longer than Go can hold.
TERMS = st.lists(
    st.tuples(st.integers(min_value=0, max_value=10**5), st.sampled_from(list(UNITS))), min_size=1, max_size=20
)


@given(DURATIONS)
def test_a_duration_reads_back_the_same(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration
    assert Duration.parse(duration.brief) == duration


@given(st.sampled_from(["m", "h"]), st.integers(min_value=1, max_value=10**6))
def test_a_brief_text_is_never_longer(unit: str, number: int) -> None:
    duration = Duration.parse(f"{number}{unit}")
    assert len(duration.brief) < len(str(duration))


@given(TERMS)
def test_terms_add_up(terms: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in terms)
    assert Duration.parse(text) == sum(number * UNITS[unit] for number, unit in terms)


@given(st.text() | st.text(alphabet="0123456789.+-hmsuµμn "))
def test_only_what_looks_like_a_duration_is_read(text: str) -> None:
    try:
        duration = Duration.parse(text)
    except ValueError:
        return
    assert LOOKS_LIKE_ONE.fullmatch(text)
    assert 0 <= duration <= LONGEST
