"""Prometheus' text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

import math
import re
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
# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
_FAMILY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@frozen
class TextFormat:
    """Writes points as text 0.0.4; `timestamps` says whether each sample carries its time."""

    timestamps: bool = True

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def format(self, points_at: PointsAt) -> bytes:
        """One block a family: HELP, TYPE, then all of its samples.

        Raises:
            ValueError: A name is none that a reader takes, or is the name of two labels of one sample.
            TypeError: A value is no number.
        """
        stamp = f" {round(points_at.stamp * 1000)}" if self.timestamps else ""
        families: dict[str, list[Point]] = {}
        for point in points_at.points:
            families.setdefault(family_name(points_at.name, point), []).append(point)
        lines = [line for name, points in families.items() for line in _family(name, points_at.labels, points, stamp)]
        # A lone surrogate, as in a path that is not UTF-8, can't be written.
        return "".join(lines).encode(errors="replace")


def _family(name: str, labels: Labels, points: list[Point], stamp: str) -> Iterator[str]:
    first = points[0]
    # The format's header names a counter with the suffix that its samples have.
    if first.type == "counter" and not name.endswith("_total"):
        name += "_total"
    if not _FAMILY_NAME.fullmatch(name):
        msg = f"{name!r} is no name for a metric: letters, digits, _ and : alone, and no digit first"
        raise ValueError(msg)
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
    if len({key for key, _ in labels}) < len(labels):
        msg = f"a label comes twice in {', '.join(key for key, _ in labels)}"
        raise ValueError(msg)
    return "{" + ",".join(_pairs(labels)) + "}" if labels else ""


def _pairs(labels: Iterable[tuple[str, str]]) -> Iterator[str]:
    for key, value in labels:
        if not _LABEL_NAME.fullmatch(key):
            msg = f"{key!r} is no name for a label: letters, digits and _ alone, and no digit first"
            raise ValueError(msg)
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        yield f'{key}="{escaped}"'


def _number(value: int | float) -> str:
    """The shortest text that reads back as the same number; True and False are 1 and 0."""
    # The plain types' own repr, since that of a class made from them, as bool or NumPy's floats, may be any text.
    if isinstance(value, int):
        return int.__repr__(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return float.__repr__(float(value))
