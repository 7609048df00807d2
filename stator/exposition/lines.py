"""Lines of a family, with a gap for each number: the text that is kept from one scrape to the next."""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import TypeAlias

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK, same_label_names
from stator.exposition.distributions import RESERVED, bad_bounds
from stator.exposition.format import Format
from stator.points import Labels, MetricType

Pieces: TypeAlias = list[tuple[bytes, int]]
"""Texts, and how many gaps each has."""

GAP = " %b\n"
# A gap that swallows its number, for a line that is left out.
SWALLOW = "%.0b"


class Lines:
    """Makes a family's lines, each with a gap for its number.

    A line is filled in two steps, labels' values first and the number later, so a `%` of its own must survive both.
    """

    def __init__(self, sample: str, common: Labels, utf8: bool) -> None:
        self._name, self._utf8 = sample, utf8
        values = escaping.escaped([value for _, value in common])
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
        if same_label_names(labels, flat, first):
            # All have the same names of labels: one operation does it.
            return (self._line(tuple(first)) * len(labels)) % _values(flat[1::2])
        return "".join(map(self.one, repeat(""), labels))

    def _line(self, keys: tuple[str, ...], suffix: str = "") -> str:
        written = [*self._fixed_labels, *map(self._label, keys)]
        if len(set(written)) < len(written):
            raise ValueError  # told by `worst`
        name = _surviving(escaping.metric(self._name + suffix, utf8=self._utf8))
        return escaping.head(name, [*self._fixed, *(f'{self._label(key)}="%s"' for key in keys)]) + GAP.replace(
            "%", "%%"
        )

    def _label(self, key: str) -> str:
        return _surviving(escaping.label(key, utf8=self._utf8))


def _surviving(text: str) -> str:
    return text.replace("%", "%%%%")


def _values(values: Sequence[str]) -> tuple[str, ...]:
    escaped = escaping.escaped(values)
    return tuple([each.replace("%", "%%") for each in escaped] if "%" in "".join(escaped) else escaped)


def complex_pieces(
    lines: Lines, type_: MetricType, labels: list[Labels], shapes: list[tuple[float, ...]], dialect: Format
) -> Pieces:
    """Lines of histograms or summaries, a piece each.

    Raises:
        INVALID_VALUE: Bounds or quantiles are not as they must be.
    """
    key = RESERVED[type_]
    suffix = "_bucket" if type_ == "histogram" else ""
    pieces = []
    for own, shape in zip(labels, shapes, strict=True):
        bounds = [float(numbers.text(bound)) for bound in shape]
        if bad := bad_bounds(bounds, type_):
            raise ValueError(bad)
        text = "".join(lines.one(suffix, own, ((key, numbers.bound(bound)),)) for bound in bounds)
        summable = type_ == "summary" or bounds[0] >= 0 or dialect.sums_below_zero
        text += lines.one("_sum", own) + lines.one("_count", own) if summable else SWALLOW + SWALLOW
        pieces.append((text.encode(), len(shape) + 2))
    return pieces
