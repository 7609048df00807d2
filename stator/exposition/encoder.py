"""Encodes points as text, and keeps each source's `Template` between scrapes.

Mostly a source's points have the same names and labels as at the last scrape. Then only their numbers are new, and a
few operations on long lists put them into the template. Otherwise a new template replaces the old one: labels that come
and go cost time, but no memory.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from math import isfinite
from threading import Lock
from typing import Any, NamedTuple

from attrs import define, field

from stator.exposition.columns import SeriesKeys, label_pairs, safe_repr
from stator.exposition.conflicts import FamilyIndex
from stator.exposition.format import Format
from stator.exposition.template import Template
from stator.points import MetricType, PointError, PointsAt

_CREATED = "_created"
_CREATED_OF = ("counter", "histogram", "summary")


class Encoder:
    """Encodes points in one format. A thread that adds points to an exposition holds the `lock`.

    Args:
        format_: The format.
        timestamps: Whether each sample carries its time.
    """

    def __init__(self, format_: Format, *, timestamps: bool) -> None:
        self.content_type = format_.content_type
        self.lock = Lock()
        self._format, self._timestamps = format_, timestamps
        self._kept = _Kept()

    def exposition(self) -> "Exposition":
        """Returns a new exposition, which has no points yet."""
        return Exposition(self._format, self._kept, timestamps=self._timestamps)


@define
class _Kept:
    """What an encoder keeps from one exposition to the next.

    Attributes:
        templates: The last template of each source.
        last: The templates of the last exposition, in order; they don't conflict.
        are_apart: Whether no two of them share a family, and the format leaves out no family of theirs.
    """

    templates: dict[str, Template] = field(factory=dict)
    last: list[Template] = field(factory=list)
    are_apart: bool = False


class _Source(NamedTuple):
    """One source's part of an exposition.

    Attributes:
        template: Its lines without their numbers.
        numbers: The numbers as text.
        end: The text after each number.
    """

    template: Template
    numbers: list[bytes]
    end: bytes


class Exposition:
    """The text that answers one scrape: add the points of each source, then take the pieces."""

    def __init__(self, format_: Format, kept: _Kept, *, timestamps: bool) -> None:
        self._format, self._kept, self._timestamps = format_, kept, timestamps
        self._sources: list[_Source] = []
        # None as long as the sources are those of the last exposition, which don't conflict.
        self._index: FamilyIndex | None = None

    def add(self, source: str, points_at: PointsAt) -> None:
        """Adds the points of one source: all of them, or none.

        Raises:
            PointError: A point can't be exposed; the message names it and says why.
        """
        template, values = self._template(source, points_at)
        nth = len(self._sources)
        if self._index is None and self._kept.last[nth : nth + 1] != [template]:
            self._index = FamilyIndex()
            self._index.add(family for other in self._sources for family in other.template.families)
        if self._index is not None:
            self._index.check_conflicts(template.families)
        self._sources.append(_Source(template, template.numbers(values), self._end(points_at)))
        if self._index is not None:
            self._index.add(template.families)

    def pieces(self) -> Iterator[bytes]:
        """The exposition's text in order, each family under one header. It needs the encoder's lock no more.

        Each piece is made when it is taken, so that memory need not hold all of them, unless sources share a family.
        """
        self._kept.last = [source.template for source in self._sources]
        if self._index is not None:
            self._kept.are_apart = self._are_apart()
        written = (each.template.write(each.numbers, each.end) for each in self._sources)
        return chain(chain.from_iterable(written) if self._kept.are_apart else self._merged(), (self._format.end,))

    def _are_apart(self) -> bool:
        families = [*chain.from_iterable(source.template.families for source in self._sources)]
        types = {family.name: family.type for family in families}
        return len(types) == len(families) and not any(self._is_left_out(name, types) for name in types)

    def _merged(self) -> Iterator[bytes]:
        written = [*chain.from_iterable(each.template.write_families(each.numbers, each.end) for each in self._sources)]
        types = {family.name: family.type for family, _ in written}
        merged: dict[str, list[bytes]] = {}
        for family, text in written:
            parts = merged.setdefault(family.name, [])
            parts.append(text.removeprefix(family.header) if parts else text)
        return chain.from_iterable(parts for name, parts in merged.items() if not self._is_left_out(name, types))

    def _is_left_out(self, name: str, types: Mapping[str, MetricType]) -> bool:
        """Whether the format reserves a family's name, which ends in `_created`, for creation times of another."""
        quote = '"' if name.endswith('"') else ""
        if self._format.created_apart or not name.endswith(_CREATED + quote):
            return False
        return types.get(name.removesuffix(_CREATED + quote) + quote) in _CREATED_OF

    def _end(self, points_at: PointsAt) -> bytes:
        """The text after each number: the time, if samples have one, and a line feed."""
        if not self._timestamps:
            return b"\n"
        stamp: Any = points_at.stamp
        try:
            if isinstance(stamp, int | float) and isfinite(stamp):
                return self._format.stamp(stamp) + b"\n"
        except OverflowError:
            pass  # an integer beyond every float
        msg = f"{points_at.name}: {safe_repr(stamp)} is not a time"
        raise PointError(msg)

    def _template(self, source: str, points_at: PointsAt) -> tuple[Template, list[Any]]:
        """Returns the source's template, a new one if its keys have changed, and its values."""
        name, common = points_at.name, label_pairs(points_at.labels)
        # A copy, since a collector whose time is up may still be at work on its list.
        points = list(points_at.points)
        template = self._kept.templates.get(source)
        values = template.values_of(name, common, points) if template else None
        if template is None or values is None:
            # The old one is forgotten before the new one is made, so that memory never holds both.
            self._kept.templates.pop(source, None)
            self._kept.last, template = [], None
            keys, values = SeriesKeys.of(name, common, points), [each.value for each in points]
            template = Template.of(keys, values, self._format)
            index = FamilyIndex()
            for family in template.families:
                index.check_conflicts((family,))
                index.add((family,))
            self._kept.templates[source] = template
        return template, values
