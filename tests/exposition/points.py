"""Points of every type, with names, labels and numbers that are hard to write."""

import math

from stator.points import Histogram, Point, PointsAt, Summary

STAMP = 1795449820.4364
SHOP = PointsAt(
    "shop",
    STAMP,
    (("host", "h1"),),
    [
        Point("requests", "Requests so far", 1027, type="counter", labels=(("method", "post"), ("code", "200"))),
        Point(
            "requests",
            "ignored: the first one stands",
            3.5,
            type="counter",
            labels=(("method", "get"), ("code", "404")),
        ),
        Point("read_total", "Bytes read", 2**80, type="counter"),
        Point("temperature", 'How "warm" \\ cold\nit is', 21.5, unit="celsius", labels=(("room", 'the "big" one'),)),
        Point("temperature", "", -0.0, unit="celsius", labels=(("room", "C:\\\nü 100 %"),)),
        Point("temperature", "", math.nan, unit="celsius", labels=(("room", ""),)),
        Point("temperature", "", math.inf, unit="celsius", labels=(("room", "{a=\"b\"} 1 # '☃'"),)),
        Point("temperature", "", -math.inf, unit="celsius", labels=(("room", "%s %b %%"),)),
        Point("temperature", "", 5e-324, unit="celsius", labels=(("other", "\t\r\x7f\u2028"), ("room", "x"))),
        Point("wait", "Time spent waiting", Histogram(((0.1, 2), (1, 5)), 3.25, 7), type="histogram", unit="seconds"),
        Point("drift", "Away from zero", Histogram(((-1.5, 1), (math.inf, 3)), -2.0, 3), type="histogram"),
        Point("size", "Size of answers", Summary(((0.5, 100), (0.99, math.nan)), 1e3, 9), type="summary", unit="bytes"),
        Point("build", "What it is", 1, type="info", labels=(("version", "1.2"),)),
        Point("odd", "Who knows", True, type="unknown"),
    ],
)
ABROAD = PointsAt(
    "Läden.нас",
    STAMP,
    (("where-to", "a"),),
    [
        Point("besuche", "Ein \\ Besuch", 1, type="counter", labels=(("größe", "ß"), ("9", "\\"))),
        Point("dauer in s", "", Histogram(((0.5, 0),), 1.5, 1), type="histogram", unit="seconds"),
        Point("wärme", "", 36.6, unit="°C"),
    ],
)
