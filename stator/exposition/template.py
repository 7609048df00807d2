"""How one source's points are laid out as text, which is what is kept from one scrape to the next.

A block is the part of a family that one source gives. Its text is kept in pieces that have a gap for each number.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice, repeat
from operator import itemgetter, le
from typing import Any, TypeAlias

from attrs import frozen

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK, Columns, SeriesKeys, at, uniform
from stator.exposition.distributions import CLASSES, INVALID_VALUE, SUFFIXES, numbers_of, shapes_of
from stator.exposition.format import Format
from stator.exposition.lines import GAP, Lines, Pieces, complex_pieces
from stator.exposition.validation import check, check_duplicates, worst
from stator.points import Labels, MetricType

# A name or label of a line: quoted texts, and anything else but what stands between names and labels.
_PART = re.compile(rb'(?:[^{},"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)

Picker: TypeAlias = Callable[[list[Any]], Sequence[Any]]


@frozen
class Block:
    """One source's part of one family.

    Attributes:
        name: The family's name.
        type: Its type.
        header: What stands above its samples.
        sample_names: Names of its samples, and its own.
        points: Positions of its points among all of the source.
        shapes: Bounds or quantiles of each of its histograms or summaries.
        pieces: Its samples, with gaps for the numbers.
        gaps: How many these are.
    """

    name: str
    type: MetricType
    header: bytes
    sample_names: frozenset[str]
    points: Sequence[int]
    shapes: list[tuple[float, ...]]
    pieces: Pieces
    gaps: int

    def series(self) -> Iterator[tuple[frozenset[bytes], str]]:
        """Each of its samples: what tells it from others, in whatever order its labels are; how it's written."""
        gap = GAP.rstrip().encode()
        for line in chain.from_iterable(text.split(b"\n")[:-1] for text, _ in self.pieces):
            head = line.removesuffix(gap).replace(b"%%", b"%")
            # An empty label is none.
            yield frozenset(part for part in _PART.findall(head) if not part.endswith(b'=""')), head.decode()

    def numbers(self, values: list[Any]) -> list[Any]:
        """The numbers of its gaps, out of the values of all points.

        Raises:
            INVALID_VALUE: One can't be exposed.
        """
        own = at(values, self.points)
        flat = list(chain.from_iterable(map(numbers_of, own))) if self.shapes else own
        # Buckets may have become others since they were looked at.
        if len(flat) != self.gaps:
            raise ValueError
        _check_values(flat if self.type == "counter" else (), flat if self.type == "info" else ())
        return flat

    def write(self, texts: Iterator[bytes]) -> Iterator[bytes]:
        """Its samples, with the next of these texts in its gaps."""
        return (text % tuple(islice(texts, gaps)) for text, gaps in self.pieces)


def _check_values(counters: Sequence[Any], infos: Sequence[Any]) -> None:
    if not all(map(le, repeat(0), counters)) or infos.count(1) < len(infos):
        raise ValueError


def _picker(positions: tuple[int, ...]) -> Picker:
    if len(positions) > 1:
        return itemgetter(*positions)  # quicker than a loop, but it would give what is at one position, and not a list
    return lambda values: [values[each] for each in positions] if positions else ()


@frozen
class Whole:
    """All blocks of a small source as one text, since one operation is quicker than one for each small family.

    Attributes:
        text: Headers and samples, with gaps for the numbers.
        in_order: Takes the values in the order of the gaps out of those of all points.
        counters: Likewise those that can't be below zero.
        infos: Likewise those that must be 1.
    """

    text: bytes
    in_order: Picker
    counters: Picker
    infos: Picker

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> "Whole | None":
        """The text of these blocks, if they are small and simple enough."""
        if not 0 < sum(len(block.points) for block in blocks) <= CHUNK or any(block.shapes for block in blocks):
            return None
        order = tuple(chain.from_iterable(block.points for block in blocks))
        text = b"".join(block.header.replace(b"%", b"%%") + lines for block in blocks for lines, _ in block.pieces)
        counters, infos = (
            _picker(tuple(chain.from_iterable(block.points for block in blocks if block.type == type_)))
            for type_ in ("counter", "info")
        )
        return cls(text, _picker(order), counters, infos)

    def numbers(self, values: list[Any]) -> Sequence[Any]:
        """The numbers of its gaps, out of the values of all points.

        Raises:
            INVALID_VALUE: One can't be exposed.
        """
        _check_values(self.counters(values), self.infos(values))
        return self.in_order(values)


@frozen
class Template:
    """All blocks of one source, and the points that they were made of, without their values."""

    heads: SeriesKeys
    blocks: tuple[Block, ...]
    whole: Whole | None
    utf8: bool

    @classmethod
    def of(cls, columns: Columns, dialect: Format) -> "Template":
        """The layout of points.

        Raises:
            PointError: A point's type, name, labels or shape can't be exposed.
        """
        blocks = tuple(_block(columns, points, dialect) for points in _families(columns))
        return cls(SeriesKeys.of(columns), blocks, Whole.of(blocks), dialect.utf8)

    def values_of(self, name: str, common: Labels, points: Sequence[Any]) -> list[Any] | None:
        """The values of points of another time; None where they don't have the same layout."""
        try:
            values = self.heads.values_of(name, common, points)
            if values is None or any(
                block.shapes != shapes_of(block.type, at(values, block.points)) for block in self.blocks if block.shapes
            ):
                return None
        except Exception:  # noqa: BLE001 # what is compared may be anybody's: whoever makes a new layout finds out why
            return None
        return values

    def joined(self, values: list[Any]) -> list[bytes]:
        """The numbers of all gaps as text, `CHUNK` at a time; nothing that can fail is left to do after this.

        Raises:
            PointError: A value can't be exposed.
        """
        try:
            if self.whole:
                return [numbers.joined(self.whole.numbers(values))]
            # All in one list, so that many small families cost little more than one big one.
            flats = [block.numbers(values) for block in self.blocks]
            flat = flats[0] if len(flats) == 1 else list(chain.from_iterable(flats))
            return [numbers.joined(flat[start : start + CHUNK]) for start in range(0, len(flat), CHUNK)]
        except INVALID_VALUE as error:
            raise worst(self.heads.columns(values), self.utf8, *(each.points for each in self.blocks)) from error

    def write(self, joined: list[bytes], after: bytes) -> Iterator[bytes]:
        """All blocks with their headers, with these numbers and the same bytes after each; made while it's taken."""
        if self.whole:
            yield self.whole.text % tuple(numbers.split(joined[0], after))
            return
        texts = _texts(joined, after)
        for block in self.blocks:
            yield block.header
            yield from block.write(texts)

    def write_blocks(self, joined: list[bytes], after: bytes) -> list[tuple[Block, list[bytes]]]:
        """The samples of each block apart."""
        texts = _texts(joined, after)
        return [(block, list(block.write(texts))) for block in self.blocks]


def _texts(joined: list[bytes], after: bytes) -> Iterator[bytes]:
    return chain.from_iterable(numbers.split(each, after) for each in joined)


def _families(columns: Columns) -> list[Sequence[int]]:
    """Positions of each family's points, in order of the families' first points."""
    if uniform(columns.names) and uniform(columns.units):
        return [range(len(columns.names))] if columns.names else []
    families: dict[tuple[str, str], list[int]] = {}
    for position, head in enumerate(zip(columns.names, columns.units, strict=True)):
        families.setdefault(head, []).append(position)
    return list(families.values())


def _block(columns: Columns, points: Sequence[int], dialect: Format) -> Block:
    first = points[0]
    type_, unit = columns.types[first], columns.units[first]
    labels, values = at(columns.labels, points), at(columns.values, points)
    try:
        same_label_names = check(columns, points, labels, utf8=dialect.utf8)
        family, sample = columns.family(first)
        shapes = shapes_of(type_, values) if type_ in CLASSES else []
        lines = Lines(sample, columns.common, dialect.utf8)
        pieces = complex_pieces(lines, type_, labels, shapes, dialect) if shapes else lines.pieces(labels)
        family, *samples = (
            escaping.metric(each, utf8=dialect.utf8)
            for each in (family, sample, *(sample + suffix for suffix in SUFFIXES.get(type_, ())))
        )
        header = dialect.header(family, samples[0], type_, columns.descs[first], unit).encode()
    except INVALID_VALUE as error:
        raise worst(columns, dialect.utf8, points) from error
    gaps = sum(count for _, count in pieces)
    block = Block(family, type_, header, frozenset({family, *samples}), points, shapes, pieces, gaps)
    if not same_label_names or len(set(labels)) < len(labels):
        check_duplicates(columns, points, dialect)
    return block
