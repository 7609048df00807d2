"""Exemplars as text: what stands after the number of a counter's line, or of a bucket's, in OpenMetrics."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

from stator.exposition import escaping, numbers
from stator.exposition.columns import label_pairs, safe_repr
from stator.exposition.distributions import Shape, has_sum, number_of
from stator.exposition.template import FamilyTemplate, Template
from stator.points import Exemplar, PointError

_EXEMPLARS = attrgetter("exemplars")


def ends_with_exemplars(template: Template, points: Sequence[Any], end: bytes) -> dict[int, bytes]:
    """The ends of the lines that have an exemplar, by the lines' positions; raises a `PointError` for a bad one."""
    if not any(map(_EXEMPLARS, points)):  # twice as fast as to list them
        return {}
    given = {position: each.exemplars for position, each in enumerate(points) if each.exemplars}
    ends: dict[int, bytes] = {}
    start = 0
    for family in template.families:
        for line, position, shape in _lines(family):
            if position in given:
                for offset, exemplar in _placed(family, position, shape, given[position]):
                    ends[start + line + offset] = b"%b%b\n" % (end[:-1], _text(exemplar, family))
        start += family.lines
    return ends


def _lines(family: FamilyTemplate) -> Iterator[tuple[int, int, Shape]]:
    """Yields of each point its first line, its position among the source's points, and its shape if it has one."""
    line = 0
    for nth, position in enumerate(family.positions):
        shape = family.shapes[nth] if family.shapes else ()
        yield line, position, shape
        line += len(shape) + 2 * has_sum(shape, family.type, family.format) if family.shapes else 1


def _placed(family: FamilyTemplate, position: int, shape: Shape, exemplars: object) -> Iterator[tuple[int, Exemplar]]:
    """Yields a point's exemplars, each with the number of its line among those of the point."""
    if not isinstance(exemplars, tuple) or not all(isinstance(each, Exemplar) for each in exemplars):
        msg = (
            f"{family.keys.describe(position)}: its exemplars must be a tuple of Exemplars, not {safe_repr(exemplars)}"
        )
        raise PointError(msg)
    if family.type not in ("counter", "histogram"):
        msg = f"{family.keys.describe(position)}: only a counter or a histogram has exemplars, not a {family.type}"
        raise PointError(msg)
    if family.type == "histogram":
        bounds = [*map(number_of, shape)]
        yield from ((bisect_left(bounds, each.value), each) for each in exemplars)
    elif family.sample.strip('"').endswith("_total"):  # another counter is written as unknown
        yield from ((0, each) for each in exemplars)


def _text(exemplar: Exemplar, family: FamilyTemplate) -> bytes:
    pairs = label_pairs(exemplar.labels)
    names = [escaping.label(name, utf8=family.format.utf8) for name, _ in pairs]
    if len({*names}) < len(names):
        msg = f"{family.name}: a label appears twice in the exemplar {exemplar.labels!r}"
        raise PointError(msg)
    labels = ",".join(f"{name}={escaping.quoted(value)}" for name, (_, value) in zip(names, pairs, strict=True))
    stamp = "" if exemplar.stamp is None else f" {numbers.text(exemplar.stamp)}"
    return f" # {{{labels}}} {numbers.text(exemplar.value)}{stamp}".encode()
