"""Where request metrics keep their numbers: one cell for each key, whatever memory it lies in."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from stator.points import LabelPairs

Key: TypeAlias = tuple[str, LabelPairs]
"""A family's name and labels."""


class Cell(Protocol):
    """One number."""

    def inc(self, amount: float) -> None:
        """Adds to it."""


class Store(Protocol):
    """Numbers by key; one in memory that processes share gives the sums of all."""

    def cell(self, family: str, labels: LabelPairs) -> Cell:
        """Returns the cell of a key, which is 0 at first; whoever keeps it needs no second look-up."""

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields each key and its number."""


class LocalCell:
    """A number of this process."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float) -> None:
        """Adds to it."""
        # No lock: with the GIL, no other thread runs between the load and the store of a slot.
        self.value += amount


class LocalStore:
    """Numbers of this process."""

    def __init__(self) -> None:
        self._cells: dict[Key, LocalCell] = {}

    def cell(self, family: str, labels: LabelPairs) -> LocalCell:
        """Returns the cell of a key."""
        # setdefault: all threads that come first get the same one.
        return self._cells.setdefault((family, labels), LocalCell())

    def values(self) -> Iterator[tuple[Key, float]]:
        """Yields each key and its number."""
        return ((key, cell.value) for key, cell in list(self._cells.items()))
