"""Detects conflicts within one exposition: a name in two families, a family with two types, a duplicate series."""

from collections.abc import Sequence

from stator.exposition.columns import Series
from stator.exposition.template import FamilyTemplate
from stator.points import MetricType, PointError


class FamilyIndex:
    """The families of an exposition; thousands of sources may each give a part of one."""

    def __init__(self) -> None:
        self._types: dict[str, MetricType] = {}
        # The family of each sample's name.
        self._owners: dict[str, str] = {}
        # By the samples' name: the series of the parts that had to be compared, and the other parts.
        self._series: dict[str, set[Series]] = {}
        self._unread: dict[str, list[FamilyTemplate]] = {}

    def add(self, families: Sequence[FamilyTemplate]) -> None:
        """Adds the families of a source; adds none and raises a `PointError` if one conflicts with another source's."""
        for family in families:
            self._check(family)
        for family in families:
            self._types[family.name] = family.type
            self._owners |= dict.fromkeys(family.sample_names, family.name)
            self._unread.setdefault(family.sample, []).append(family)

    def _check(self, family: FamilyTemplate) -> None:
        for name in family.sample_names:
            if (owner := self._owners.get(name, family.name)) != family.name:
                msg = f"{family.name}: the name {name} is taken by samples of the family {owner}"
                raise PointError(msg)
        if (type_ := self._types.get(family.name, family.type)) != family.type:
            msg = f"{family.name}: its type {family.type} is not that of its family, {type_}"
            raise PointError(msg)
        if unread := self._unread.get(family.sample):
            self._series.setdefault(family.sample, set()).update(*(part.series() for part in unread))
            unread.clear()
        if there := self._series.get(family.sample):
            family.check_duplicates(there)
