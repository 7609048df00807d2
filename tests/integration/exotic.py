"""A collector that has Stator say all that is hard to say, for those who scrape it."""

import math
from pathlib import Path

from stator.points import Exemplar, Histogram, Point, PointsAt, Summary

# A series is there until a file of this name is in the working folder.
GONE = "gone"

NUMBERS: list[float] = [
    *(0.1, -0.0, 1 / 3, 1e100, 5e-324, 1.7976931348623157e308, -2.2250738585072014e-308, 123456789.12345679),
    *(math.nan, math.inf, -math.inf, 0, -1, 2**53 - 1, 2**63, -(2**64), 10**30, True),
]
TEXTS = [
    *("", " ", "plain", 'a "quoted" one', "C:\\dir\\new", "\\", '\\"', "line\nbreak", "\\n", "\r\n\t", "a,b={c}"),
    *("# HELP x", "a\0b", "\0", "%s %b %%", "ünï☃ 𝄞 نص", "\u2028\x85\x7f\x1b", "\ufeff\uffff", "'`$;", "x" * 5000),
]
EXEMPLARS = [
    Exemplar({"trace_id": "4bf92f35", "text": text[:9]}, 10.0**at, 1.8e9 + at / 8) for at, text in enumerate(TEXTS)
]
POINTS = [
    *(Point("number", "Any number", number, labels=(("nth", str(at)),)) for at, number in enumerate(NUMBERS)),
    *(
        Point("text", "Any \\ text\nin labels", at, type="unknown", labels=(("text", text),))
        for at, text in enumerate(TEXTS)
    ),
    Point("seen", "What was seen", 2**60, "counter", "bytes", (("b", "1"), ("a", "2")), (Exemplar({}, 1e-9),)),
    Point("seen", "", 0.1 + 0.2, type="counter", unit="bytes", labels=(("a", "2"), ("c", "%"))),
    Point(
        *("wait", "Time spent", Histogram(((0.1, 2), (1, 5), (1e20, 6)), 1 / 3, 7), "histogram", "seconds"),
        exemplars=(*EXEMPLARS, Exemplar({"trace_id": "x" * 120}, math.inf)),
    ),
    Point("size", "Sizes", Summary(((0, 1.5), (0.99, math.nan), (1, 2**70)), 1e300, 9), type="summary", unit="bytes"),
    Point("build", "What it is", 1, type="info", labels=(("version", "1.2"),)),
]
ABROAD = [
    Point("besuche.heute", "", 1.5, labels=(("größe-1", "ß"),)),
    Point('"quoted" \\ {a}=\n%s', "", 2, type="counter", unit="°C", labels=(('"k" \\\n,=}', "v"),)),
]
HERE = Point("here", "There until it is gone", 1)


class Exotic:
    """Gives the points above."""

    def collect(self, now: float) -> PointsAt:
        points = POINTS if Path(GONE).exists() else [*POINTS, HERE]
        return PointsAt("exotic", now, (("common", "{}"),), points)


class Abroad:
    """Gives points with names that only newer formats can write."""

    def collect(self, now: float) -> PointsAt:
        return PointsAt("läden", now, points=ABROAD)
