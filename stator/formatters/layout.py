"""How one source's points are laid out as text, which is what is kept from one scrape to the next.

A block is the part of a family that one source gives. Its text is kept in pieces that have a gap for each number.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice, repeat
from math import inf
from operator import le, lt
from typing import Any, TypeAlias, get_args

from attrs import evolve, frozen

from stator.entity import Histogram, Labels, Point, PointError, PointsAt, Summary, Type, family_name
from stator.formatters import names, numbers
from stator.formatters.dialect import Dialect

Pieces: TypeAlias = list[tuple[bytes, int]]
"""Texts, and how many gaps each has."""

# Lines that are written by one operation: enough to spread its cost, few enough that other threads get their turn,
# and that a million points need no second million of anything.
CHUNK = 4096
GAP = " %b\n"
# A gap that swallows its number, for a line that is left out.
SWALLOW = "%.0b"
SUFFIXES: dict[str, tuple[str, ...]] = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
COMPLEX: dict[str, type[Any]] = {"histogram": Histogram, "summary": Summary}
RESERVED = {"histogram": "le", "summary": "quantile"}
# What a value that is no number, or a thing of the wrong shape, may raise: other people's numbers included.
UNFIT = (TypeError, ValueError, AttributeError, ArithmeticError)
# A name or label of a line: quoted texts, and anything else but what stands between names and labels.
_PART = re.compile(rb'(?:[^{},"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)


@frozen
class Columns:
    """A source's points, each of their parts in a list of its own."""

    name: str
    common: Labels
    names: list[str]
    descs: list[str]
    units: list[str]
    types: list[Type]
    labels: list[Labels]
    values: list[Any]

    @classmethod
    def of(cls, points_at: PointsAt) -> "Columns":
        """The columns of points.

        Raises:
            PointError: Something among them is no Point.
        """
        points: list[Any] = list(points_at.points)
        try:
            return cls(
                points_at.name,
                points_at.labels,
                [each.name for each in points],
                [each.desc for each in points],
                [each.unit for each in points],
                [each.type for each in points],
                [each.labels for each in points],
                [each.value for each in points],
            )
        except AttributeError as error:
            stranger = next(each for each in points if not isinstance(each, Point))
            msg = f"{points_at.name}: {stranger!r} is no Point"
            raise PointError(msg) from error

    def has_heads_of(self, other: "Columns") -> bool:
        """Whether all but the values is the same; quick, since mostly they are the same objects."""
        return (
            self.labels == other.labels
            and self.names == other.names
            and self.types == other.types
            and self.units == other.units
            and self.descs == other.descs
            and (self.name, self.common) == (other.name, other.common)
        )

    def told(self, index: int) -> str:
        """How a message names a point."""
        own: Any = self.labels[index]
        labels = [*self.common, *own] if isinstance(own, tuple) and isinstance(self.common, tuple) else own
        return f"{family_name(self.name, self.names[index], self.units[index])} {labels}"


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
        flat = list(chain.from_iterable(map(_numbers, own))) if self.shapes else own
        if self.type == "counter" and not all(map(le, repeat(0), flat)):
            raise ValueError
        if self.type == "info" and flat.count(1) < len(flat):
            raise ValueError
        return flat

    def write(self, texts: Iterator[bytes]) -> list[bytes]:
        """Its samples, with the next of these texts in its gaps."""
        return [text % tuple(islice(texts, gaps)) for text, gaps in self.pieces]


@frozen
class Layout:
    """All blocks of one source, and the points that they were made of, without their values."""

    heads: Columns
    blocks: tuple[Block, ...]
    utf8: bool

    @classmethod
    def of(cls, columns: Columns, dialect: Dialect) -> "Layout":
        """The layout of points.

        Raises:
            PointError: A point's type, name, labels or shape can't be exposed.
        """
        blocks = tuple(_block(columns, points, dialect) for points in _families(columns))
        return cls(evolve(columns, values=[]), blocks, dialect.utf8)

    def fits(self, columns: Columns) -> bool:
        """Whether points of another time have the same layout."""
        try:
            return columns.has_heads_of(self.heads) and all(
                block.shapes == _shapes(block.type, _at(columns.values, block.points))
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
            # All in one list, so that many small families cost no more than one big one.
            flats = [block.numbers(columns.values) for block in self.blocks]
            texts = _texts(flats[0] if len(flats) == 1 else list(chain.from_iterable(flats)), after)
            written = [block.write(texts) for block in self.blocks]
        except UNFIT as error:
            raise _worst(columns, self.utf8, *(each.points for each in self.blocks)) from error
        return written


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
        shapes = _shapes(type_, values) if type_ in COMPLEX else []
        lines = _Lines(sample, columns.common, dialect.utf8)
        pieces = _complex_pieces(lines, type_, labels, shapes, dialect) if shapes else lines.pieces(labels)
        family, *samples = (
            names.metric(each, utf8=dialect.utf8)
            for each in (family, sample, *(sample + suffix for suffix in SUFFIXES.get(type_, ())))
        )
        header = dialect.header(family, samples[0], type_, columns.descs[first], unit).encode()
    except UNFIT as error:
        raise _worst(columns, dialect.utf8, points) from error
    block = Block(family, type_, header, frozenset({family, *samples}), points, shapes, pieces)
    if not keys_alike or len(set(labels)) < len(labels):
        _refuse_twice(columns, points, dialect)
    return block


def _check(columns: Columns, points: Sequence[int], labels: list[Labels], *, utf8: bool) -> bool:
    """Refuses, by any ValueError or TypeError, what `_worst` then finds and explains.

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
    if any(_bad_key(key, types[0], utf8=utf8) for key in keys):
        raise ValueError
    return flat[0::2] == [key for key, _ in labels[0]] * len(labels)


def _bad_key(key: str, type_: Type, *, utf8: bool) -> bool:
    # `..name..` would be written as `__name__`.
    return not key or key == RESERVED.get(type_) or key.startswith("__") or names.label(key, utf8=utf8).startswith("__")


def _names(name: str, type_: Type, *, whole: bool) -> tuple[str, str]:
    """A family's name, and the name of its samples where they have no further suffix; a whole name gets no suffix."""
    suffix = {"counter": "_total", "info": "_info"}.get(type_, "")
    family = name.removesuffix(suffix)
    return family, name if whole else family + suffix


class _Lines:
    """Makes a family's lines, each with a gap for its number.

    A line is filled in two steps, labels' values first and the number later, so a `%` of its own must survive both.
    """

    def __init__(self, sample: str, common: Labels, utf8: bool) -> None:
        self._name, self._utf8 = sample, utf8
        values = names.escaped([value for _, value in common])
        self._fixed_labels = [self._label(key) for key, _ in common]
        pairs = zip(self._fixed_labels, values, strict=True)
        self._fixed = [f'{label}="{_surviving(value)}"' for label, value in pairs]

    def pieces(self, labels: Sequence[Labels]) -> Pieces:
        """Lines of points that have a number each."""
        chunks = (labels[at : at + CHUNK] for at in range(0, len(labels), CHUNK))
        return [(self._many(chunk).encode(), len(chunk)) for chunk in chunks]

    def one(self, suffix: str, labels: Labels, last: Labels = ()) -> str:
        """One line, of a name with a suffix."""
        every = (*labels, *last)
        return self._line(tuple(key for key, _ in every), suffix) % _values([value for _, value in every])

    def _many(self, labels: Sequence[Labels]) -> str:
        flat = list(chain.from_iterable(chain.from_iterable(labels)))
        first = [key for key, _ in labels[0]]
        if flat[0::2] == first * len(labels):
            # All have the same names of labels: one operation does it.
            return (self._line(tuple(first)) * len(labels)) % _values(flat[1::2])
        return "".join(map(self.one, repeat(""), labels))

    def _line(self, keys: tuple[str, ...], suffix: str = "") -> str:
        written = [*self._fixed_labels, *map(self._label, keys)]
        if len(set(written)) < len(written):
            raise ValueError  # told by `_worst`
        name = _surviving(names.metric(self._name + suffix, utf8=self._utf8))
        return names.head(name, [*self._fixed, *(f'{self._label(key)}="%s"' for key in keys)]) + GAP.replace("%", "%%")

    def _label(self, key: str) -> str:
        return _surviving(names.label(key, utf8=self._utf8))


def _surviving(text: str) -> str:
    return text.replace("%", "%%%%")


def _values(values: Sequence[str]) -> tuple[str, ...]:
    escaped = names.escaped(values)
    return tuple([each.replace("%", "%%") for each in escaped] if "%" in "".join(escaped) else escaped)


def _complex_pieces(
    lines: _Lines, type_: Type, labels: list[Labels], shapes: list[tuple[float, ...]], dialect: Dialect
) -> Pieces:
    """Lines of histograms or summaries, a piece each.

    Raises:
        UNFIT: Bounds or quantiles are not as they must be.
    """
    key = RESERVED[type_]
    suffix = "_bucket" if type_ == "histogram" else ""
    pieces = []
    for own, shape in zip(labels, shapes, strict=True):
        bounds = [float(numbers.text(bound)) for bound in shape]
        if bad := _bad_bounds(bounds, type_):
            raise ValueError(bad)
        text = "".join(lines.one(suffix, own, ((key, numbers.bound(bound)),)) for bound in bounds)
        summable = type_ == "summary" or bounds[0] >= 0 or dialect.sums_below_zero
        text += lines.one("_sum", own) + lines.one("_count", own) if summable else SWALLOW + SWALLOW
        pieces.append((text.encode(), len(shape) + 2))
    return pieces


def _bad_bounds(bounds: Sequence[float], type_: Type) -> str | None:
    """Why these can't be a histogram's upper bounds, or a summary's quantiles, if so."""
    if not all(map(lt, bounds, bounds[1:])):
        return f"its {'buckets' if type_ == 'histogram' else 'quantiles'} must ascend"
    if type_ == "summary" and not all(0 <= quantile <= 1 for quantile in bounds):
        return "its quantiles must be from 0 to 1"
    return None


def _shapes(type_: Type, values: Sequence[Any]) -> list[tuple[float, ...]]:
    """Upper bounds, `+Inf` included, or quantiles of each.

    Raises:
        UNFIT: One is no histogram, or no summary.
    """
    if type_ == "histogram":
        return [(*(bound for bound, _ in each.buckets if bound != inf), inf) for each in values]
    return [tuple(quantile for quantile, _ in each.quantiles) for each in values]


def _numbers(value: Histogram | Summary) -> list[int | float]:
    """The numbers of a histogram or summary, in the order of its lines.

    Raises:
        UNFIT: The counts of a histogram's buckets fall, or exceed its own.
    """
    if isinstance(value, Histogram):
        counts = [*(count for _, count in value.buckets), value.count]
        if not (counts[0] >= 0 and all(map(le, counts, counts[1:]))):
            raise ValueError
        return [*(count for bound, count in value.buckets if bound != inf), value.count, value.sum, value.count]
    if not value.count >= 0:
        raise ValueError
    return [*(at for _, at in value.quantiles), value.sum, value.count]


def _refuse_twice(columns: Columns, points: Sequence[int], dialect: Dialect) -> None:
    """Refuses two points with the same name and labels, in whatever order.

    Raises:
        PointError: There are such.
    """
    seen: set[frozenset[tuple[str, str]]] = set()
    for position in points:
        own = columns.labels[position]
        # An empty label is none.
        series = frozenset((names.label(key, utf8=dialect.utf8), value) for key, value in own if value)
        if series in seen:
            msg = f"{columns.told(position)} comes twice"
            raise PointError(msg)
        seen.add(series)


def _worst(columns: Columns, utf8: bool, *families: Sequence[int]) -> PointError:
    """The error that names the first point, of some families, that can't be exposed, and says why."""
    for points in families:
        for position in points:
            if reason := _reason(columns, position, columns.types[points[0]], utf8=utf8):
                return PointError(f"{columns.told(position)}: {reason}")
    return PointError(f"{columns.told(families[0][0])}: its family can't be written")


def _reason(columns: Columns, position: int, type_: Type, *, utf8: bool) -> str | None:  # one for each rule
    """Why a point can't be exposed, if it can't."""
    own, value = columns.types[position], columns.values[position]
    if own not in get_args(Type):
        return f"{own!r} is none of the types {', '.join(get_args(Type))}"
    if own != type_:
        return f"its type {own} is not that of its family, {type_}"
    if reason := _bad_texts(columns, position):
        return reason
    keys = [key for key, _ in (*columns.common, *columns.labels[position])]
    for key in keys:
        if _bad_key(key, type_, utf8=utf8):
            return f"{key!r} can't be a label's name here"
    if len({names.label(key, utf8=utf8) for key in keys}) < len(keys):
        return "a label comes twice"
    return _bad_value(value, type_)


def _bad_texts(columns: Columns, position: int) -> str | None:
    common: Any = columns.common
    own: Any = columns.labels[position]
    if not (isinstance(common, tuple) and isinstance(own, tuple)):
        return "its labels must be tuples, ((name, value), ...)"
    pairs: tuple[Any, ...] = (*common, *own)
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        return "its labels must be tuples, ((name, value), ...)"
    texts: list[Any] = [columns.name, columns.names[position], columns.units[position], columns.descs[position]]
    try:
        are_texts = all(type(text) is str for text in (*texts, *chain.from_iterable(pairs)))
        "".join((*texts, *chain.from_iterable(pairs))).encode()
    except (TypeError, ValueError):
        are_texts = False
    return None if are_texts else "its name, description and labels must be texts in UTF-8, each a str"


def _bad_value(value: Any, type_: Type) -> str | None:
    wanted = COMPLEX.get(type_)
    if wanted and not isinstance(value, wanted):
        return f"{value!r} is no {wanted.__name__}"
    try:
        bounds = [float(numbers.text(bound)) for bound in _shapes(type_, [value])[0]] if wanted else []
        if reason := _bad_bounds(bounds, type_):
            return reason
        for number in _every(value) if wanted else [value]:
            numbers.text(number)
    except UNFIT:
        return f"not all of {value!r} are numbers" if wanted else f"{value!r} is no number"
    try:
        if wanted:
            _numbers(value)
        if type_ == "counter" and not value >= 0:
            raise ValueError
        if type_ == "info" and value != 1:
            raise ValueError
    except UNFIT:
        if wanted:
            return f"the counts of {value!r} must be zero or more, must not fall, nor exceed its own"
        return f"a counter can't be {value!r}" if type_ == "counter" else f"an info must be 1, not {value!r}"
    return None


def _every(value: Histogram | Summary) -> list[Any]:
    """All numbers of a histogram or summary but its bounds or quantiles."""
    own = value.buckets if isinstance(value, Histogram) else value.quantiles
    return [*(number for _, number in own), value.sum, value.count]
