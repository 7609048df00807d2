"""How one source's points are laid out as text, which is what is kept from one scrape to the next.

A block is the part of a family that one source gives. Its text is kept in pieces that have a gap for each number.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from operator import le
from typing import Any, get_args

from attrs import evolve, frozen

from stator.entity import Labels, PointError, Type, family_name
from stator.formatters import names, numbers
from stator.formatters.columns import Columns
from stator.formatters.dialect import Dialect
from stator.formatters.distributions import CLASSES, SUFFIXES, UNFIT, numbers_of, shapes_of
from stator.formatters.lines import CHUNK, GAP, Lines, Pieces, complex_pieces
from stator.formatters.refusals import bad_key, refuse_twice, worst

# A name or label of a line: quoted texts, and anything else but what stands between names and labels.
_PART = re.compile(rb'(?:[^{},"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)


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
    """

    name: str
    type: Type
    header: bytes
    sample_names: frozenset[str]
    points: Sequence[int]
    shapes: list[tuple[float, ...]]
    pieces: Pieces

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
            UNFIT: One can't be exposed.
        """
        own = _at(values, self.points)
        flat = list(chain.from_iterable(map(numbers_of, own))) if self.shapes else own
        if self.type == "counter" and not all(map(le, repeat(0), flat)):
            raise ValueError
        if self.type == "info" and flat.count(1) < len(flat):
            raise ValueError
        return flat

    def write(self, texts: Iterator[bytes]) -> list[bytes]:
        """Its samples, with the next of these texts in its gaps."""
        return [text % tuple(islice(texts, gaps)) for text, gaps in self.pieces]


@frozen
class Whole:
    """All blocks of a small source as one text, since one operation is quicker than one for each small family.

    Attributes:
        text: Headers and samples, with gaps for the numbers.
        order: Positions of the points in the order of the gaps.
        counters: Positions of the points that can't be below zero.
        infos: Positions of the points that must be 1.
    """

    text: bytes
    order: tuple[int, ...]
    counters: tuple[int, ...]
    infos: tuple[int, ...]

    @classmethod
    def of(cls, blocks: Sequence[Block]) -> "Whole | None":
        """The text of these blocks, if they are small and simple enough."""
        if not 0 < sum(len(block.points) for block in blocks) <= CHUNK or any(block.shapes for block in blocks):
            return None
        order = tuple(chain.from_iterable(block.points for block in blocks))
        text = b"".join(block.header.replace(b"%", b"%%") + lines for block in blocks for lines, _ in block.pieces)
        counters, infos = (
            tuple(chain.from_iterable(block.points for block in blocks if block.type == type_))
            for type_ in ("counter", "info")
        )
        return cls(text, order, counters, infos)

    def write(self, values: list[Any], after: bytes) -> bytes:
        """The text with these numbers in its gaps.

        Raises:
            UNFIT: One can't be exposed.
        """
        ordered, counters, infos = (
            [values[position] for position in positions] for positions in (self.order, self.counters, self.infos)
        )
        if not all(map(le, repeat(0), counters)) or infos.count(1) < len(infos):
            raise ValueError
        return self.text % tuple(numbers.texts(ordered, after))


@frozen
class Layout:
    """All blocks of one source, and the points that they were made of, without their values."""

    heads: Columns
    blocks: tuple[Block, ...]
    whole: Whole | None
    utf8: bool

    @classmethod
    def of(cls, columns: Columns, dialect: Dialect) -> "Layout":
        """The layout of points.

        Raises:
            PointError: A point's type, name, labels or shape can't be exposed.
        """
        blocks = tuple(_block(columns, points, dialect) for points in _families(columns))
        return cls(evolve(columns, values=[]), blocks, Whole.of(blocks), dialect.utf8)

    def fits(self, columns: Columns) -> bool:
        """Whether points of another time have the same layout."""
        try:
            return columns.has_heads_of(self.heads) and all(
                block.shapes == shapes_of(block.type, _at(columns.values, block.points))
                for block in self.blocks
                if block.shapes
            )
        except UNFIT:
            return False  # whoever makes a new layout finds out why

    def write(self, columns: Columns, after: bytes) -> list[list[bytes]]:
        """Each block's samples, with the numbers of these columns, and the same bytes after each.

        Raises:
            PointError: A value can't be exposed.
        """
        try:
            # All in one list, so that many small families cost little more than one big one.
            flats = [block.numbers(columns.values) for block in self.blocks]
            texts = _texts(flats[0] if len(flats) == 1 else list(chain.from_iterable(flats)), after)
            written = [block.write(texts) for block in self.blocks]
        except UNFIT as error:
            raise self._worst(columns) from error
        return written

    def write_whole(self, whole: Whole, columns: Columns, after: bytes) -> bytes:
        """All blocks with their headers, as one text.

        Raises:
            PointError: A value can't be exposed.
        """
        try:
            return whole.write(columns.values, after)
        except UNFIT as error:
            raise self._worst(columns) from error

    def _worst(self, columns: Columns) -> PointError:
        return worst(columns, self.utf8, *(each.points for each in self.blocks))


def _texts(flat: list[Any], after: bytes) -> Iterator[bytes]:
    chunks = (flat[at : at + CHUNK] for at in range(0, len(flat), CHUNK))
    return chain.from_iterable(numbers.texts(chunk, after) for chunk in chunks)


def _families(columns: Columns) -> list[Sequence[int]]:
    """Positions of each family's points, in order of the families' first points."""
    if _uniform(columns.names) and _uniform(columns.units):
        return [range(len(columns.names))] if columns.names else []
    families: dict[tuple[str, str], list[int]] = {}
    for position, head in enumerate(zip(columns.names, columns.units, strict=True)):
        families.setdefault(head, []).append(position)
    return list(families.values())


def _uniform(column: list[Any]) -> bool:
    return column.count(column[0]) == len(column) if column else True


def _at(column: list[Any], points: Sequence[int]) -> list[Any]:
    return column if len(points) == len(column) else [column[position] for position in points]


def _block(columns: Columns, points: Sequence[int], dialect: Dialect) -> Block:
    first = points[0]
    type_, unit = columns.types[first], columns.units[first]
    labels, values = _at(columns.labels, points), _at(columns.values, points)
    try:
        keys_alike = _check(columns, points, labels, utf8=dialect.utf8)
        whole = not columns.name
        family, sample = _names(family_name(columns.name, columns.names[first], unit), type_, whole=whole)
        shapes = shapes_of(type_, values) if type_ in CLASSES else []
        lines = Lines(sample, columns.common, dialect.utf8)
        pieces = complex_pieces(lines, type_, labels, shapes, dialect) if shapes else lines.pieces(labels)
        family, *samples = (
            names.metric(each, utf8=dialect.utf8)
            for each in (family, sample, *(sample + suffix for suffix in SUFFIXES.get(type_, ())))
        )
        header = dialect.header(family, samples[0], type_, columns.descs[first], unit).encode()
    except UNFIT as error:
        raise worst(columns, dialect.utf8, points) from error
    block = Block(family, type_, header, frozenset({family, *samples}), points, shapes, pieces)
    if not keys_alike or len(set(labels)) < len(labels):
        refuse_twice(columns, points, dialect)
    return block


def _check(columns: Columns, points: Sequence[int], labels: list[Labels], *, utf8: bool) -> bool:
    """Refuses, by any ValueError or TypeError, what `worst` then finds and explains.

    Returns:
        Whether all points have the same names of labels in the same order.
    """
    types = _at(columns.types, points)
    if not _uniform(types) or types[0] not in get_args(Type):
        raise ValueError
    pairs = list(chain.from_iterable(labels))
    flat = list(chain.from_iterable(pairs))
    common = list(chain.from_iterable(columns.common))
    # What could change behind our back would not be seen to have changed.
    kinds = {*map(type, labels), *map(type, pairs), *map(type, columns.common), type(columns.common)}
    if not all(issubclass(kind, tuple) for kind in kinds):
        raise TypeError
    texts = {columns.name, columns.names[points[0]], columns.units[points[0]]}
    if len(flat) != 2 * len(pairs) or {*map(type, flat), *map(type, common), *map(type, texts)} - {str}:
        raise TypeError
    keys = {*flat[0::2], *common[0::2]}
    "".join((*texts, *keys)).encode()  # a surrogate may be escaped, and so not be found later
    if any(bad_key(key, types[0], utf8=utf8) for key in keys):
        raise ValueError
    return flat[0::2] == [key for key, _ in labels[0]] * len(labels)


def _names(name: str, type_: Type, *, whole: bool) -> tuple[str, str]:
    """A family's name, and the name of its samples where they have no further suffix; a whole name gets no suffix."""
    suffix = {"counter": "_total", "info": "_info"}.get(type_, "")
    family = name.removesuffix(suffix)
    return family, name if whole else family + suffix
