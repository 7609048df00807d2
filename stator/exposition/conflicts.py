"""What goes together in one exposition: no name of two families, no family of two types, no series twice."""

from collections.abc import Sequence

from stator.exposition.template import Block
from stator.points import PointError


class FamilyIndex:
    """Families that go together, indexed, so that there may be thousands of sources.

    Attributes:
        sources: Number of the sources that they are of.
    """

    def __init__(self) -> None:
        self.sources = 0
        self._families: dict[str, list[Block]] = {}
        # Which family each name of a sample belongs to.
        self._owners: dict[str, str] = {}
        # Series of the families that are shared, by name: of so many of its blocks.
        self._series: dict[str, tuple[int, set[frozenset[bytes]]]] = {}

    def take(self, blocks: Sequence[Block]) -> None:
        """Adds the blocks of one more source."""
        self.sources += 1
        for block in blocks:
            self._families.setdefault(block.name, []).append(block)
            self._owners |= dict.fromkeys(block.sample_names, block.name)

    def check_conflicts(self, blocks: Sequence[Block]) -> None:
        """Compares the blocks of another source with each other, and with those that are there.

        Raises:
            PointError: They don't go together; the message says why.
        """
        owners: dict[str, str] = {}
        families: dict[str, list[Block]] = {}  # names that differ may be the same once they're escaped
        for block in blocks:
            for name in block.sample_names:
                owner = self._owners.get(name) or owners.setdefault(name, block.name)
                if owner != block.name:
                    msg = f"{block.name}: the name {name} is taken by samples of the family {owner}"
                    raise PointError(msg)
            there, own = self._families.get(block.name, []), families.setdefault(block.name, [])
            for other in (*there[:1], *own[:1]):
                _refuse_type(block, other)
            for taken in (self._taken(block.name, there), *map(_series, own)):
                _refuse_twice(block, taken)
            own.append(block)

    def _taken(self, family: str, blocks: Sequence[Block]) -> set[frozenset[bytes]]:
        known, taken = self._series.get(family, (0, set()))
        for block in blocks[known:]:
            taken |= _series(block)
        if blocks:
            self._series[family] = len(blocks), taken
        return taken


def _series(block: Block) -> set[frozenset[bytes]]:
    return {series for series, _ in block.series()}


def _refuse_type(block: Block, other: Block) -> None:
    if other.type != block.type:
        msg = f"{block.name}: its type {block.type} is not that of its family, {other.type}"
        raise PointError(msg)


def _refuse_twice(block: Block, taken: set[frozenset[bytes]]) -> None:
    if twice := next((line for series, line in block.series() if series in taken), None) if taken else None:
        msg = f"{twice} comes twice"
        raise PointError(msg)
