"""Waves can be predicted."""

import pytest

from stator.collectors.wave import PERIOD, WaveConfig, square
from stator.points import PointsAt
from tests.collectors.contexts import context

NOW = 1_795_449_820.436


def values(points_at: PointsAt) -> dict[str, float]:
    return {dict(point.labels)["name"]: point.value for point in points_at.points}  # type: ignore[misc] # numbers


def test_there_are_three_series_of_one_family() -> None:
    points_at = WaveConfig().build(context()).collect(NOW)
    assert (points_at.name, points_at.stamp) == ("wave", NOW)
    assert {(point.name, point.unit, point.type) for point in points_at.points} == {("sine", "", "gauge")}
    assert list(values(points_at)) == ["simple", "three_random", "square"]


def test_the_same_seed_gives_the_same_values() -> None:
    assert WaveConfig(7).build(context()).collect(NOW) == WaveConfig(7).build(context()).collect(NOW)


def test_values_stay_the_same_from_release_to_release() -> None:
    found = values(WaveConfig(1).build(context()).collect(NOW))
    assert found == pytest.approx({"simple": -0.88794387, "three_random": 0.32637420, "square": -1.06473839}, abs=1e-6)


def test_another_seed_changes_the_random_wave_alone() -> None:
    one, other = (values(WaveConfig(seed).build(context()).collect(NOW)) for seed in (1, 2))
    assert one.pop("three_random") != other.pop("three_random")
    assert one == other


@pytest.mark.parametrize(
    ("turns", "simple"), [(0.0, 0.0), (0.25, 1.0), (0.5, 0.0), (0.75, -1.0), (1.0, 0.0), (29_924_163.25, 1.0)]
)
def test_the_simple_wave_is_a_sine_of_amplitude_1(turns: float, simple: float) -> None:
    assert values(WaveConfig().build(context()).collect(turns * PERIOD))["simple"] == pytest.approx(simple, abs=1e-6)


def test_the_square_wave_is_the_sum_that_the_formula_gives() -> None:
    # 4/pi (1 - 1/3 + 1/5 - 1/7) at a quarter of its turn
    assert square(PERIOD / 4) == pytest.approx(4 / 3.141592653589793 * (1 - 1 / 3 + 1 / 5 - 1 / 7))
