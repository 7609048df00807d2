"""Writes points as lines, and keeps between scrapes what does not change: headers, and the head of each series.

Mostly a source's points come with the same names and labels as at the last scrape. Then only the numbers are new, and
they are put into the kept text by a few operations on long lists. Otherwise the source's `Template` is made anew and
the old one forgotten: labels that come and go cost time, but no memory.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from math import isfinite
from threading import Lock
from typing import Any, NamedTuple

from attrs import define, field

from stator.exposition.columns import Columns
from stator.exposition.conflicts import FamilyIndex
from stator.exposition.format import Format
from stator.exposition.template import Block, Template
from stator.exposition.validation import shown
from stator.points import MetricType, PointError, PointsAt

_CREATED = "_created"
_CREATED_OF = ("counter", "histogram", "summary")


class Encoder:
    """Makes expositions in one dialect; for one thread at a time, which holds its `lock`.

    Args:
        dialect: The format.
        timestamps: Whether each sample carries its time.
    """

    def __init__(self, dialect: Format, *, timestamps: bool) -> None:
        self.content_type = dialect.content_type
        self._dialect, self._timestamps = dialect, timestamps
        self._kept = _Kept()
        self.lock = Lock()

    def exposition(self) -> "Exposition":
        """An exposition without points yet."""
        return Exposition(self._dialect, self._kept, timestamps=self._timestamps)


@define
class _Kept:
    """What is kept from one exposition to the next.

    Attributes:
        layouts: The last layout of each source.
        agreed: Layouts that went together in the last exposition, in order.
        apart: Whether none of these share a family.
    """

    layouts: dict[str, Template] = field(factory=dict)
    agreed: list[Template] = field(factory=list)
    apart: bool = False


class _Source(NamedTuple):
    """What an exposition holds of one source.

    Attributes:
        layout: How its points are laid out.
        joined: Its numbers as text.
        after: What stands after each.
    """

    layout: Template
    joined: list[bytes]
    after: bytes

    def write(self) -> Iterator[bytes]:
        return self.layout.write(self.joined, self.after)

    def write_blocks(self) -> list[tuple[Block, list[bytes]]]:
        return self.layout.write_blocks(self.joined, self.after)


class Exposition:
    """One answer to a scrape: add what each source says, then take the pieces."""

    def __init__(self, dialect: Format, kept: _Kept, *, timestamps: bool) -> None:
        self._dialect, self._kept, self._timestamps = dialect, kept, timestamps
        self._sources: list[_Source] = []
        self._as_agreed = True
        self._there = FamilyIndex()

    def add(self, source: str, points_at: PointsAt) -> None:
        """Adds the points of one source: all of them, or none.

        Raises:
            PointError: A point can't be exposed; the message names it and says why.
        """
        layout, values = self._laid_out(source, points_at)
        self._as_agreed = self._as_agreed and layout is self._expected()
        if not self._as_agreed:
            for other in self._sources[self._there.sources :]:
                self._there.take(other.layout.blocks)
            self._there.check_conflicts(layout.blocks)
        after = self._stamp(points_at)
        self._sources.append(_Source(layout, layout.joined(values), after))

    def pieces(self) -> Iterator[bytes]:
        """The exposition's text in order, each family under one header; the formatter's lock is needed no more.

        It's made while it's taken, so that not all of it need be held at once, but where sources share a family.
        """
        self._kept.agreed = [source.layout for source in self._sources]
        if not self._as_agreed:
            self._kept.apart = self._are_apart()
        is_apart = self._kept.apart
        written = chain.from_iterable(each.write() for each in self._sources) if is_apart else self._merged()
        return chain(written, (self._dialect.end,))

    def _are_apart(self) -> bool:
        """Whether no family is of several blocks, and none is left out."""
        blocks = list(chain.from_iterable(source.layout.blocks for source in self._sources))
        types = {block.name: block.type for block in blocks}
        return len(types) == len(blocks) and not any(self._is_taken(name, types) for name in types)

    def _merged(self) -> Iterator[bytes]:
        blocks = list(chain.from_iterable(source.write_blocks() for source in self._sources))
        types = {block.name: block.type for block, _ in blocks}
        families: dict[str, list[bytes]] = {}
        for block, pieces in blocks:
            if not self._is_taken(block.name, types):
                families.setdefault(block.name, [block.header]).extend(pieces)
        return chain.from_iterable(families.values())

    def _is_taken(self, name: str, types: Mapping[str, MetricType]) -> bool:
        """Whether the format takes a family's name for a sample of another: when a counter and the like began."""
        quote = '"' if name.endswith('"') else ""
        if self._dialect.created_apart or not name.endswith(_CREATED + quote):
            return False
        return types.get(name.removesuffix(_CREATED + quote) + quote) in _CREATED_OF

    def _stamp(self, points_at: PointsAt) -> bytes:
        if not self._timestamps:
            return b""
        stamp: Any = points_at.stamp
        try:
            if isinstance(stamp, int | float) and isfinite(stamp):
                return self._dialect.stamp(stamp)
        except OverflowError:
            pass  # as little a time as the others
        msg = f"{points_at.name}: {shown(stamp)} is no time"
        raise PointError(msg)

    def _laid_out(self, source: str, points_at: PointsAt) -> tuple[Template, list[Any]]:
        """A source's layout, and its values."""
        name, common = points_at.name, points_at.labels
        points: Any = points_at.points
        if type(points) not in (list, tuple):
            points = list(points)
        layout = self._kept.layouts.get(source)
        values = layout.values_of(name, common, points) if layout else None
        if layout is None or values is None:
            # Forgotten before the new one is made, so that there are never two of them.
            self._kept.layouts.pop(source, None)
            self._kept.agreed, layout = [], None
            # A copy, since a collector that was given up may still be at work on it.
            columns = Columns.of(name, common, list(points))
            layout = self._kept.layouts[source] = Template.of(columns, self._dialect)
            values = columns.values
        return layout, values

    def _expected(self) -> Template | None:
        """The layout that came at this place in the last exposition."""
        at = len(self._sources)
        return self._kept.agreed[at] if at < len(self._kept.agreed) else None
