"""Encodes points as text, and keeps each source's `Template` between scrapes, since mostly only numbers are new."""

from collections.abc import Hashable, Iterator, Mapping, Set
from itertools import chain
from math import isfinite
from threading import Lock
from typing import Any

from msgspec.structs import replace

from stator.exposition.columns import SeriesKeys, label_pairs, safe_repr
from stator.exposition.conflicts import FamilyIndex
from stator.exposition.exemplars import ends_with_exemplars
from stator.exposition.format import Format
from stator.exposition.template import Template, explain
from stator.exposition.validation import INVALID_VALUE
from stator.points import LabelPairs, MetricType, Point, PointError, PointsAt


class Encoder:
    """Encodes points in one format, with times if `timestamps`; threads that add to an exposition hold `lock`."""

    def __init__(self, format_: Format, *, timestamps: bool) -> None:
        self.content_type = format_.content_type
        self.lock = Lock()
        self.format, self.timestamps = format_, timestamps
        # The last template of each source, and those of the last exposition in order, which don't conflict.
        self.templates: dict[Hashable, Template] = {}
        self.last: list[Template] = []
        # The families of each source of which one could not be exposed: each has a template of its own.
        self.apart: dict[str, Set[Hashable]] = {}

    def exposition(self) -> "Exposition":
        """Returns a new exposition, which has no points yet."""
        return Exposition(self)

    def template(
        self, source: Hashable, name: str, common: LabelPairs, points: list[Any]
    ) -> tuple[Template, list[Any]]:
        """Returns a source's template, a new one if its keys have changed, and the points' values."""
        kept = self.templates.get(source)
        values = kept.values_of(name, common, points) if kept else None
        if kept is not None and values is not None:
            return kept, values
        # The old one is forgotten before the new one is made, so that memory never holds both.
        self.templates.pop(source, None)
        self.last, kept = [], None
        values = [each.value for each in points]
        template = Template.of(SeriesKeys.of(name, common, points), values, self.format)
        index = FamilyIndex()
        for family in template.families:
            index.add([family])
        self.templates[source] = template
        return template, values


class Exposition:
    """The text that answers one scrape: add the points of each source, then take the pieces."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        # Of each source: its template, its numbers as text, the text after each number, and that of single lines.
        self._sources: list[tuple[Template, list[bytes], bytes, dict[int, bytes]]] = []
        # None as long as the sources are those of the last exposition, which don't conflict.
        self._index: FamilyIndex | None = None

    def add_families(self, source: str, points_at: PointsAt) -> list[Exception]:
        """Adds the points of one source; returns what is wrong with the families that are left out."""
        return self.add_fitting(source, points_at)[1]

    def add_fitting(self, source: str, points_at: PointsAt) -> tuple[list[Any], list[Exception]]:
        """Does the same; returns the points that were added too."""
        encoder, points = self._encoder, list(points_at.points)
        before = encoder.apart.pop(source, None)
        if before is None and not self._errors(source, replace(points_at, points=points)):
            return points, []
        families = _by_family(source, points)
        fitting: list[Any] = []
        errors: list[Exception] = []
        is_apart = False
        # Those that may give way come last.
        for key, own in sorted(families.items(), key=lambda each: _may_be_unknown(each[1])):
            wrong = self._errors(key, replace(points_at, points=own))
            is_apart |= bool(wrong)
            if wrong and not points_at.name and not encoder.format.named_by_samples and _may_be_unknown(own):
                unknown = [replace(each, type="unknown") for each in own]
                wrong = wrong if self._errors(key, replace(points_at, points=unknown)) else []
            errors += wrong
            fitting += own if not wrong else []
        if is_apart:
            encoder.apart[source] = families.keys()
        for gone in {source, *(before or ()), *families} - encoder.apart.get(source, set()):
            encoder.templates.pop(gone, None)
        return fitting, errors

    def _errors(self, source: Hashable, points_at: PointsAt) -> list[Exception]:
        try:
            self.add(source, points_at)
        except Exception as error:  # noqa: BLE001 # texts and numbers may be of any type
            return [error]
        return []

    def add(self, source: Hashable, points_at: PointsAt) -> None:
        """Adds the points of one source: all of them; or none, and raises a `PointError` that names a bad one."""
        encoder = self._encoder
        name, common = points_at.name, label_pairs(points_at.labels)
        # A copy, since a collector whose time is up may still be at work on its list.
        points = list(points_at.points)
        try:
            template, values = encoder.template(source, name, common, points)
            numbers = template.numbers(values)
        except INVALID_VALUE as error:
            changed = PointError(f"{name}: a point changed while it was read")
            raise explain(name, common, points, encoder.format) or changed from error
        end = self._end(points_at)
        ends = ends_with_exemplars(template, points, end) if encoder.format.exemplars else {}
        nth = len(self._sources)
        if self._index is None and encoder.last[nth : nth + 1] != [template]:
            self._index = FamilyIndex()
            self._index.add([family for other, *_ in self._sources for family in other.families])
        if self._index is not None:
            self._index.add(template.families)
        self._sources.append((template, numbers, end, ends))

    def pieces(self) -> Iterator[bytes]:
        """Returns the text in order, each family under one header; its pieces need the encoder's lock no more."""
        self._encoder.last = [template for template, *_ in self._sources]
        families = [*chain.from_iterable(template.families for template in self._encoder.last)]
        types = {family.name: family.type for family in families}
        left_out = set() if self._encoder.format.created_apart else _creation_times(types)
        if left_out or len(types) < len(families):
            pieces = self._merged(left_out)
        else:
            pieces = chain.from_iterable(
                template.write(numbers, end, ends) for template, numbers, end, ends in self._sources
            )
        return chain(pieces, (self._encoder.format.end,))

    def _merged(self, left_out: Set[str]) -> Iterator[bytes]:
        merged: dict[str, list[bytes]] = {}
        for template, numbers, end, ends in self._sources:
            for family, text in template.write_families(numbers, end, ends):
                parts = merged.setdefault(family.name, [])
                parts.append(text.removeprefix(family.header) if parts else text)
        return chain.from_iterable(parts for name, parts in merged.items() if name not in left_out)

    def _end(self, points_at: PointsAt) -> bytes:
        """The text after each number: the time, if samples have one, and a line feed."""
        if not self._encoder.timestamps:
            return b"\n"
        try:
            if isfinite(points_at.stamp):
                return self._encoder.format.stamp(points_at.stamp) + b"\n"
        except INVALID_VALUE:
            pass  # no number, or an integer beyond every float
        msg = f"{points_at.name}: {safe_repr(points_at.stamp)} is not a time"
        raise PointError(msg)


def _may_be_unknown(points: list[Any]) -> bool:
    """Whether points may stand beside a family that is called as theirs is without a suffix, if they have no type."""
    first = points[0]
    suffix = {"counter": "_total", "info": "_info"}.get(first.type) if isinstance(first, Point) else None
    return suffix is not None and first.name.endswith(suffix)


def _by_family(source: str, points: list[Any]) -> dict[Hashable, list[Any]]:
    """The points of each family; all together where some are no points."""
    families: dict[Hashable, list[Any]] = {}
    try:
        for point in points:
            families.setdefault((source, point.name, point.unit), []).append(point)
    except (AttributeError, TypeError):
        return {(source,): points}
    return families


def _creation_times(types: Mapping[str, MetricType]) -> set[str]:
    """The families that OpenMetrics takes for creation times of others: `x_created` beside a counter `x`."""
    reserved = set()
    for name, type_ in types.items():
        if type_ in ("counter", "histogram", "summary"):
            quote = '"' if name.endswith('"') else ""
            reserved.add(f"{name.removesuffix(quote)}_created{quote}")
    return reserved & types.keys()
