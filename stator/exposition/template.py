"""One source's points as text without their numbers, which an encoder keeps from one scrape to the next.

A line is a head, `shop_jobs{queue="mail"} `, a number, and an end: a time, if samples have one, and a line feed. The
head of a family's first line begins with the family's header.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from operator import le
from typing import Any

from attrs import frozen

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK, SeriesKeys, take
from stator.exposition.distributions import CLASSES, INVALID_VALUE, SUFFIXES, has_sum, numbers_of, shapes_of
from stator.exposition.format import Format
from stator.exposition.lines import HeadWriter
from stator.exposition.validation import check_duplicates, explain, validate_fast
from stator.points import LabelPairs, MetricType


@frozen(eq=False)
class FamilyTemplate:
    """The part of a family that one source gives.

    Attributes:
        keys: The keys of all the source's points.
        positions: The positions of the family's points among them.
        format: The format.
        name: The family's name, as it is written.
        type: Its type.
        header: The lines above the samples.
        sample: The samples' name, without a suffix such as `_bucket`.
        sample_names: All names of the samples, and the family's.
        shapes: The bounds of each histogram, or the quantiles of each summary.
        lines: The number of samples.
    """

    keys: SeriesKeys
    positions: Sequence[int]
    format: Format
    name: str
    type: MetricType
    header: bytes
    sample: str
    sample_names: frozenset[str]
    shapes: list[tuple[float, ...]]
    lines: int

    def numbers(self, values: list[Any]) -> list[Any]:
        """The numbers of the family's lines, out of the values of all the source's points.

        Raises:
            INVALID_VALUE: One can't be exposed.
        """
        own = take(values, self.positions)
        if self.type == "counter" and not all(map(le, repeat(0), own)):
            raise ValueError
        if self.type == "info" and own.count(1) < len(own):
            raise ValueError
        if not self.shapes:
            return own
        flat: list[Any] = []
        for value, shape in zip(own, self.shapes, strict=True):
            every = numbers_of(value)
            if len(every) != len(shape) + 2:  # the buckets have changed since they were compared
                raise ValueError
            flat += every if has_sum(shape, self.type, self.format) else every[:-2]
        return flat


@frozen(eq=False)
class Template:
    """All families of one source.

    Attributes:
        keys: The keys of the source's points.
        families: Its families.
        heads: The heads of all their lines, in order.
        format: The format.
    """

    keys: SeriesKeys
    families: tuple[FamilyTemplate, ...]
    heads: list[bytes]
    format: Format

    @classmethod
    def of(cls, keys: SeriesKeys, values: list[Any], format_: Format) -> "Template":
        """The template of points.

        Raises:
            PointError: A point's type, name, labels or shape can't be exposed.
        """
        families: list[FamilyTemplate] = []
        heads: list[bytes] = []
        for positions in keys.families():
            try:
                family, own = _family(keys, positions, values, format_)
            except INVALID_VALUE as error:
                raise explain(keys, values, [positions], format_) from error
            own[0] = family.header + own[0]
            families.append(family)
            heads += own
        return cls(keys, tuple(families), heads, format_)

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
        """The numbers of all lines as text, `CHUNK` of them joined by commas at a time. Writing these can't fail.

        Raises:
            PointError: A value can't be exposed.
        """
        try:
            flat: list[Any] = []
            for family in self.families:
                flat += family.numbers(values)
            return [numbers.joined(flat[start : start + CHUNK]) for start in range(0, len(flat), CHUNK)]
        except INVALID_VALUE as error:
            families = [family.positions for family in self.families]
            raise explain(self.keys, values, families, self.format) from error

    def write(self, joined: list[bytes], end: bytes) -> Iterator[bytes]:
        """The text of all families, in pieces of which each is made when it is taken.

        Args:
            joined: The numbers of all lines.
            end: The text after each number.
        """
        for nth, each in enumerate(joined):
            start = nth * CHUNK
            yield _lines(self.heads[start : start + CHUNK], each.split(b","), end)

    def write_families(self, joined: list[bytes], end: bytes) -> Iterator[tuple[FamilyTemplate, bytes]]:
        """The text of each family, with its header."""
        split = [*chain.from_iterable(each.split(b",") for each in joined)]
        start = 0
        for family in self.families:
            stop = start + family.lines
            yield family, _lines(self.heads[start:stop], split[start:stop], end)
            start = stop


def _lines(heads: list[bytes], split: list[bytes], end: bytes) -> bytes:
    texts = [end] * (3 * len(heads))
    texts[0::3], texts[1::3] = heads, split
    return b"".join(texts)


def _family(
    keys: SeriesKeys, positions: Sequence[int], values: list[Any], format_: Format
) -> tuple[FamilyTemplate, list[bytes]]:
    """The template of one family, and the heads of its lines.

    Raises:
        PointError: A series appears twice.
        INVALID_VALUE: A point can't be exposed for another reason.
    """
    first = positions[0]
    type_, labels = keys.types[first], take(keys.labels, positions)
    same_names = validate_fast(keys, positions, labels, format_)
    family, sample = keys.family(first)
    writer = HeadWriter(sample, keys.common, format_, same_names=same_names)
    shapes = shapes_of(type_, take(values, positions)) if type_ in CLASSES else []
    heads = writer.of_distributions(type_, labels, shapes) if shapes else writer.of(labels)
    if not same_names or len(set(labels)) < len(labels):
        check_duplicates(keys, positions, format_)
    suffixed = (sample + suffix for suffix in SUFFIXES.get(type_, ()))
    family, sample, *others = (escaping.metric(each, utf8=format_.utf8) for each in (family, sample, *suffixed))
    header = format_.header(family, sample, type_, keys.descs[first], keys.units[first]).encode()
    names = frozenset({family, sample, *others})
    return FamilyTemplate(keys, positions, format_, family, type_, header, sample, names, shapes, len(heads)), heads
