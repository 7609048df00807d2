"""Points of every type, with all that is hard to write, for tests of whole expositions."""

import math

from stator.points import Histogram, Point, PointsAt, Summary

STAMP = 1795449820.4364
SHOP = PointsAt(
    "shop",
    STAMP,
    (("host", "h1"),),
    [
        Point("requests", "Requests so far", "", "counter", 1027, (("method", "post"), ("code", "200"))),
        Point("requests", "not told: the first is", "", "counter", 3.5, (("method", "get"), ("code", "404"))),
        Point("read_total", "Bytes read", "", "counter", 2**80),
        Point("temperature", 'How "warm" \\ cold\nit is', "celsius", "gauge", 21.5, (("room", 'the "big" one'),)),
        Point("temperature", "", "celsius", "gauge", -0.0, (("room", "C:\\\nü 100 %"),)),
        Point("temperature", "", "celsius", "gauge", math.nan, (("room", ""),)),
        Point("temperature", "", "celsius", "gauge", math.inf, (("room", "{a=\"b\"} 1 # '☃'"),)),
        Point("temperature", "", "celsius", "gauge", -math.inf, (("room", "%s %b %%"),)),
        Point("temperature", "", "celsius", "gauge", 5e-324, (("other", "\t\r\x7f\u2028"), ("room", "x"))),
        Point("wait", "Time spent waiting", "seconds", "histogram", Histogram(((0.1, 2), (1, 5)), 3.25, 7)),
        Point("drift", "Away from zero", "", "histogram", Histogram(((-1.5, 1), (math.inf, 3)), -2.0, 3)),
        Point("size", "Size of answers", "bytes", "summary", Summary(((0.5, 100), (0.99, math.nan)), 1e3, 9)),
        Point("build", "What it is", "", "info", 1, (("version", "1.2"),)),
        Point("odd", "Who knows", "", "unknown", True),
    ],
)
ABROAD = PointsAt(
    "Läden.нас",
    STAMP,
    (("where-to", "a"),),
    [
        Point("besuche", "Ein \\ Besuch", "", "counter", 1, (("größe", "ß"), ("9", "\\"))),
        Point("dauer in s", "", "seconds", "histogram", Histogram(((0.5, 0),), 1.5, 1)),
        Point("wärme", "", "°C", "gauge", 36.6),
    ],
)
