"""Waves keep to their mathematics at every time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stator.collectors.wave import PERIOD, Sine, Wave, WaveConfig, square
from tests.collectors.contexts import context

SEEDS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
# From 1970 to the year 2500, in Unix seconds.
TIMES = st.floats(min_value=0.0, max_value=1.7e10)
# The largest sum of three random sines, and of the first four odd harmonics.
RANDOM_BOUND, SQUARE_BOUND = 1.0, 1.2


def at(wave: Wave, now: float) -> dict[str, float]:
    return {dict(point.labels)["name"]: point.value for point in wave.collect(now).points}  # type: ignore[misc] # numbers


@given(SEEDS, TIMES)
def test_no_wave_leaves_its_bounds(seed: int, now: float) -> None:
    values = at(WaveConfig(seed).build(context()), now)
    assert abs(values["simple"]) <= 1.0
    assert abs(values["three_random"]) <= RANDOM_BOUND
    assert abs(values["square"]) <= SQUARE_BOUND


@given(SEEDS, TIMES)
def test_a_seed_and_a_time_are_all_that_a_value_depends_on(seed: int, now: float) -> None:
    assert at(WaveConfig(seed).build(context()), now) == at(WaveConfig(seed).build(context()), now)


@given(TIMES, st.integers(min_value=1, max_value=1000))
def test_simple_and_square_come_again_after_each_period(now: float, turns: int) -> None:
    one, later = (at(WaveConfig().build(context()), each) for each in (now, now + turns * PERIOD))
    assert one["simple"] == pytest.approx(later["simple"], abs=1e-5)
    assert one["square"] == pytest.approx(later["square"], abs=1e-5)


@given(TIMES)
def test_half_a_period_turns_simple_and_square_upside_down(now: float) -> None:
    one, later = (at(WaveConfig().build(context()), each) for each in (now, now + PERIOD / 2))
    assert one["simple"] == pytest.approx(-later["simple"], abs=1e-5)
    assert one["square"] == pytest.approx(-later["square"], abs=1e-5)


@given(
    st.floats(min_value=0.0, max_value=10.0),
    st.floats(min_value=1.0, max_value=100.0),
    st.floats(min_value=0.0, max_value=2 * math.pi),
    TIMES,
)
def test_a_sine_comes_again_after_its_own_period(amplitude: float, period: float, phase: float, now: float) -> None:
    sine = Sine(amplitude, period, phase)
    assert abs(sine.at(now)) <= amplitude
    assert sine.at(now) == pytest.approx(sine.at(now + period), abs=1e-4)


@given(st.floats(min_value=0.001, max_value=0.499), st.integers(min_value=1, max_value=300))
def test_the_square_series_comes_ever_nearer_to_a_square(turn: float, harmonics: int) -> None:
    # What is left of the series after n terms is at most 4/(pi (2n+1) sin x): Dirichlet's test,
    # https://mathworld.wolfram.com/DirichletsTest.html
    bound = 4 / (math.pi * (2 * harmonics + 1) * math.sin(2 * math.pi * turn))
    assert abs(square(turn * PERIOD, harmonics) - 1) <= bound + 1e-9
    assert abs(square((turn + 0.5) * PERIOD, harmonics) + 1) <= bound + 1e-9
