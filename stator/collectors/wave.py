"""Waves: a signal that is fun to look at, and that a test can predict."""

import math
import random

from attrs import frozen

from stator.points import CollectorContext, Point, PointsAt
from stator.settings.declare import setting

# Period of the simple and of the square wave, in seconds.
PERIOD = 60.0


@frozen(eq=False, repr=False)
class WaveConfig:
    """Settings of the `wave` collector."""

    seed: int = setting(1, desc="seed of the random waves: the same seed gives the same waves")

    def build(self, context: CollectorContext) -> "Wave":
        """Returns a collector of the waves of this seed."""
        chances = [random.Random(f"{self.seed}/{nth}").uniform for nth in range(3)]  # noqa: S311 # a wave is no secret
        sines = (Sine(pick(0.1, 1 / 3), pick(PERIOD / 10, PERIOD), pick(0, 2 * math.pi)) for pick in chances)
        return Wave(tuple(sines))


@frozen(eq=False, repr=False)
class Sine:
    """One sine wave: amplitude, period in seconds, and phase in radians."""

    amplitude: float
    period: float
    phase: float = 0.0

    def at(self, now: float) -> float:
        """Returns its value at a time in seconds."""
        return self.amplitude * math.sin(2 * math.pi * math.fmod(now, self.period) / self.period + self.phase)


@frozen(eq=False, repr=False)
class Wave:
    """Reports the series ``simple``, ``three_random`` and ``square``, each a pure function of time from -1.2 to 1.2.

    Two processes with the same waves report the same values at the same time.
    """

    three_random: tuple[Sine, ...]

    def is_nonblocking(self) -> bool:
        """Returns True: it only computes."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Returns the value of each series at a time in Unix seconds."""
        values = {
            "simple": Sine(1.0, PERIOD).at(now),
            "three_random": sum(sine.at(now) for sine in self.three_random),
            "square": square(now),
        }
        points = [Point("sine", "Sine wave(s)", value, labels=(("name", name),)) for name, value in values.items()]
        return PointsAt("wave", now, points=points)


# https://mathworld.wolfram.com/FourierSeriesSquareWave.html
def square(now: float, harmonics: int = 4) -> float:
    """Returns the sum of the first odd harmonics of the Fourier series of a square wave of amplitude 1."""
    return sum(Sine(4 / (math.pi * nth), PERIOD / nth).at(now) for nth in range(1, 2 * harmonics, 2))
