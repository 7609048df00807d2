"""One source's points as text without their numbers, which an encoder keeps from one scrape to the next."""

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from itertools import chain, repeat
from operator import le
from typing import Any

from attrs import frozen

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK, Series, SeriesKeys, safe_repr, take
from stator.exposition.distributions import CLASSES, SUFFIXES, Shape, has_sum, numbers_of, shapes_of
from stator.exposition.format import Format
from stator.exposition.lines import distribution_heads, heads
from stator.exposition.validation import INVALID_VALUE, NO_TEXTS, BadPointError, validate
from stator.points import LabelPairs, MetricType, PointError


@frozen(eq=False, repr=False)
class FamilyTemplate:
    """The part of a family that one source gives: the points at `positions` among the source's `keys`."""

    keys: SeriesKeys
    positions: Sequence[int]
    format: Format
    name: str
    type: MetricType
    header: bytes
    # The samples' name without a suffix such as `_bucket`, and all their names with the family's.
    sample: str
    sample_names: frozenset[str]
    # The bounds of each histogram, or the quantiles of each summary.
    shapes: list[Shape]
    lines: int

    def numbers(self, values: list[Any]) -> list[Any]:
        """The numbers of the family's lines, out of the values of all the source's points."""
        own = take(values, self.positions)
        if self.type == "counter" and not _are_counts(own):
            msg = f"a counter can't be {safe_repr(own[0])}"
            raise BadPointError(msg)
        if self.type == "info" and own.count(1) < len(own):
            msg = f"an info must be 1, not {safe_repr(own[0])}"
            raise BadPointError(msg)
        if not self.shapes:
            return own
        flat: list[Any] = []
        for value, shape in zip(own, self.shapes, strict=True):
            every = numbers_of(value)
            if len(every) != len(shape) + 2:  # the buckets have changed since they were compared
                msg = "its family can't be written"
                raise BadPointError(msg)
            flat += every if has_sum(shape, self.type, self.format) else every[:-2]
        return flat

    def series(self) -> Iterator[Series]:
        """The series of the points, in order."""
        return (self.keys.series(position, utf8=self.format.utf8) for position in self.positions)

    def check_duplicates(self, there: Set[Series] = frozenset()) -> None:
        """Raises a `PointError` if a point has the same series as another of them, or as one that is there."""
        seen: set[Series] = set()
        for position, series in zip(self.positions, self.series(), strict=True):
            if series in seen or series in there:
                msg = f"{self.keys.describe(position)} appears twice"
                raise PointError(msg)
            seen.add(series)


# A line is a head, `shop_jobs{queue="mail"} `, a number, and an end: a time, if samples have one, and a line feed.
@frozen(eq=False, repr=False)
class Template:
    """All families of one source, and the heads of all their lines, in order."""

    keys: SeriesKeys
    families: tuple[FamilyTemplate, ...]
    heads: list[bytes]

    @classmethod
    def of(cls, keys: SeriesKeys, values: list[Any], format_: Format) -> "Template":
        """The template of points; raises one of `INVALID_VALUE` if one can't be exposed, which `explain` finds."""
        families: list[FamilyTemplate] = []
        every: list[bytes] = []
        for positions, desc in zip(keys.families, keys.descs, strict=True):
            family, own = _family(keys, positions, desc, values, format_)
            own[0] = family.header + own[0]
            families.append(family)
            every += own
        return cls(keys, tuple(families), every)

    def values_of(self, name: str, common: LabelPairs, points: Sequence[Any]) -> list[Any] | None:
        """The values of these points; None if they need another template."""
        try:
            values = self.keys.values_of(name, common, points)
            if values is None or any(
                family.shapes != shapes_of(family.type, take(values, family.positions))
                for family in self.families
                if family.shapes
            ):
                return None
        except Exception:  # noqa: BLE001 # keys and values may be of any type; a new template finds what is wrong
            return None
        return values

    def numbers(self, values: list[Any]) -> list[bytes]:
        """The numbers of all lines as text, `CHUNK` of them joined by commas at a time; fails as `of` does."""
        columns = [family.numbers(values) for family in self.families]
        flat = columns[0] if len(columns) == 1 else [*chain.from_iterable(columns)]
        return [numbers.joined(flat[start : start + CHUNK]) for start in range(0, len(flat), CHUNK)]

    def write(self, joined: list[bytes], end: bytes, ends: Mapping[int, bytes]) -> Iterator[bytes]:
        """The text of all families, in pieces of which each is made when it is taken; `ends` are lines' own ends."""
        for nth, each in enumerate(joined):
            start = nth * CHUNK
            yield _lines(self.heads[start : start + CHUNK], each.split(b","), end, ends, start)

    def write_families(
        self, joined: list[bytes], end: bytes, ends: Mapping[int, bytes]
    ) -> Iterator[tuple[FamilyTemplate, bytes]]:
        """The text of each family, with its header."""
        split = [*chain.from_iterable(each.split(b",") for each in joined)]
        start = 0
        for family in self.families:
            stop = start + family.lines
            yield family, _lines(self.heads[start:stop], split[start:stop], end, ends, start)
            start = stop


def explain(name: str, common: LabelPairs, points: Sequence[Any], format_: Format) -> PointError | None:
    """Returns an error that says what is wrong with a bad point, which it finds by halves; None if there is none."""
    keys, values = SeriesKeys.of(name, common, points), [each.value for each in points]
    try:
        Template.of(keys, values, format_).numbers(values)
    except INVALID_VALUE as error:
        if len(points) > 1:
            half = len(points) // 2
            return explain(name, common, points[:half], format_) or explain(name, common, points[half:], format_)
        return PointError(f"{keys.describe(0)}: {_reason(error, keys.types[0], values[0])}")
    return None


def _reason(error: Exception, type_: MetricType, value: object) -> str:
    if isinstance(error, BadPointError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return NO_TEXTS
    given = safe_repr(value)
    if isinstance(error, OverflowError):
        return f"not all of {given} fit into a float" if type_ in CLASSES else f"{given} is too large for a float"
    return f"not all of {given} are numbers" if type_ in CLASSES else f"{given} is not a number"


def _are_counts(values: list[Any]) -> bool:
    try:
        return all(map(le, repeat(0), values))
    except ArithmeticError:  # Decimal's NaN can't be compared
        return False


def _lines(heads: list[bytes], split: list[bytes], end: bytes, ends: Mapping[int, bytes], start: int) -> bytes:
    texts = [end] * (3 * len(heads))
    texts[0::3], texts[1::3] = heads, split
    for line, own in ends.items():
        if start <= line < start + len(heads):
            texts[3 * (line - start) + 2] = own
    return b"".join(texts)


def _family(
    keys: SeriesKeys, positions: Sequence[int], desc: str, values: list[Any], format_: Format
) -> tuple[FamilyTemplate, list[bytes]]:
    """The template of one family, and the heads of its lines."""
    labels = take(keys.labels, positions)
    type_, same_names = validate(keys, positions, desc, labels, format_)
    family, sample = keys.family(positions[0])
    write = partial(heads, common=keys.common, format_=format_, same_names=same_names)
    shapes = shapes_of(type_, take(values, positions)) if type_ in CLASSES else []
    own = distribution_heads(write, sample, type_, labels, shapes, format_) if shapes else write(sample, labels)
    names = [escaping.metric(sample + suffix, utf8=format_.utf8) for suffix in ("", *SUFFIXES.get(type_, ()))]
    family = names[0] if format_.named_by_samples else escaping.metric(family, utf8=format_.utf8)
    header = format_.header(family, names[0], type_, desc, keys.units[positions[0]]).encode()
    template = FamilyTemplate(
        keys, positions, format_, family, type_, header, names[0], frozenset({family, *names}), shapes, len(own)
    )
    if not same_names or len(set(labels)) < len(labels):
        template.check_duplicates()
    return template, own
