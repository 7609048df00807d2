"""Prometheus' text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import math
from collections.abc import Iterable, Iterator

from attrs import frozen

from stator.entity import Histogram, Labels, Point, PointsAt, Summary, family_name

_TYPES = {
    "counter": "counter",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "info": "gauge",
}


@frozen
class TextFormat:
    """Writes points as text 0.0.4; `timestamps` says whether each sample carries its time."""

    timestamps: bool = True

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def format(self, points_at: PointsAt) -> bytes:
        """One block a family: HELP, TYPE, then all of its samples."""
        stamp = f" {round(points_at.stamp * 1000)}" if self.timestamps else ""
        families: dict[str, list[Point]] = {}
        for point in points_at.points:
            families.setdefault(family_name(points_at.name, point), []).append(point)
        lines = [line for name, points in families.items() for line in _family(name, points_at.labels, points, stamp)]
        return "".join(lines).encode()


def _family(name: str, labels: Labels, points: list[Point], stamp: str) -> Iterator[str]:
    first = points[0]
    # The format's header names a counter with the suffix that its samples have.
    if first.type == "counter" and not name.endswith("_total"):
        name += "_total"
    help_ = first.desc.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"\n# HELP {name} {help_}\n# TYPE {name} {_TYPES.get(first.type, 'untyped')}\n"
    for point in points:
        for suffix, more, value in _samples(point):
            yield f"{name}{suffix}{_labels((*labels, *point.labels, *more))} {_number(value)}{stamp}\n"


def _samples(point: Point) -> Iterator[tuple[str, Labels, int | float]]:
    """Suffix, further labels and value of each sample of a point."""
    value = point.value
    if isinstance(value, Histogram):
        for bound, count in value.buckets:
            if bound != math.inf:
                yield "_bucket", (("le", _number(float(bound))),), count
        yield "_bucket", (("le", "+Inf"),), value.count
    elif isinstance(value, Summary):
        for quantile, at in value.quantiles:
            yield "", (("quantile", _number(float(quantile))),), at
    else:
        yield "", (), value
        return
    yield "_sum", (), value.sum
    yield "_count", (), value.count


def _labels(labels: Labels) -> str:
    return "{" + ",".join(_pairs(labels)) + "}" if labels else ""


def _pairs(labels: Iterable[tuple[str, str]]) -> Iterator[str]:
    for key, value in labels:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'{key}="{escaped}"'


def _number(value: int | float) -> str:
    """The shortest text that reads back as the same number."""
    if value != value:  # noqa: PLR0124 # NaN alone differs from itself
        return "NaN"
    if value in (math.inf, -math.inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
