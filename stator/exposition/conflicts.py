"""Detects conflicts within one exposition: a name in two families, a family with two types, a duplicate series."""

from collections.abc import Iterable

from stator.exposition.columns import Series
from stator.exposition.template import FamilyTemplate
from stator.exposition.validation import check_duplicates
from stator.points import MetricType, PointError


class FamilyIndex:
    """The families of an exposition; thousands of sources may each give a part of one."""

    def __init__(self) -> None:
        self._types: dict[str, MetricType] = {}
        # The family of each sample's name.
        self._owners: dict[str, str] = {}
        # By the samples' name: all parts, and the series of the first parts with their number, read only when needed.
        self._parts: dict[str, list[FamilyTemplate]] = {}
        self._series: dict[str, tuple[int, set[Series]]] = {}

    def add(self, families: Iterable[FamilyTemplate]) -> None:
        """Adds a source's families, which do not conflict."""
        for family in families:
            self._types[family.name] = family.type
            self._owners |= dict.fromkeys(family.sample_names, family.name)
            self._parts.setdefault(family.sample, []).append(family)

    def check_conflicts(self, families: Iterable[FamilyTemplate]) -> None:
        """Compares another source's families with those of the index.

        Raises:
            PointError: One of them conflicts; the message says why.
        """
        for family in families:
            for name in family.sample_names:
                if (owner := self._owners.get(name, family.name)) != family.name:
                    msg = f"{family.name}: the name {name} is taken by samples of the family {owner}"
                    raise PointError(msg)
            if (type_ := self._types.get(family.name, family.type)) != family.type:
                msg = f"{family.name}: its type {family.type} is not that of its family, {type_}"
                raise PointError(msg)
            if family.sample in self._parts:
                check_duplicates(family.keys, family.positions, family.format, self._series_of(family.sample))

    def _series_of(self, sample: str) -> set[Series]:
        count, series = self._series.get(sample, (0, set()))
        for part in self._parts[sample][count:]:
            series.update(part.keys.series(position, utf8=part.format.utf8) for position in part.positions)
        self._series[sample] = len(self._parts[sample]), series
        return series
