"""Validates points, a whole family at once; `template.explain` finds the bad one, by validating fewer and fewer."""

from collections.abc import Sequence
from itertools import chain
from typing import get_args

from stator.exposition import escaping
from stator.exposition.columns import CHUNK, SeriesKeys, all_equal, safe_repr, take
from stator.exposition.format import Format
from stator.points import LabelPairs, MetricType, PointError

# What a value that is not a number, or not of the right shape, may raise: numbers of other libraries included.
INVALID_VALUE = (TypeError, ValueError, AttributeError, ArithmeticError)
# The label by which the lines of one distribution differ.
RESERVED = {"histogram": "le", "summary": "quantile"}
NO_TEXTS = "its name, description and labels must be texts in UTF-8, each a str"


class BadPointError(ValueError):
    """A point can't be exposed. The message says why, and does not name it."""


def validate(
    keys: SeriesKeys, positions: Sequence[int], desc: str, labels: list[LabelPairs], format_: Format
) -> tuple[MetricType, bool]:
    """Validates all but the values; returns the type, and whether all have the same names of labels in order."""
    first, type_ = positions[0], _type(keys, positions)
    names, same_names = _label_names(labels)
    names |= _label_names([keys.common])[0]
    texts = (keys.name, keys.names[first], keys.units[first], desc)
    if {*map(type, texts)} != {str}:
        raise BadPointError(NO_TEXTS)
    "".join((*texts, *names)).encode()  # finds surrogates, which escaping may replace
    if not keys.family(first)[0]:
        msg = "its family has no name"
        raise BadPointError(msg)
    for name in names:
        is_reserved = name.startswith("__") or name == RESERVED.get(type_)
        # `..name..` would be written as `__name__`.
        if not name or is_reserved or escaping.label(name, utf8=format_.utf8).startswith("__"):
            msg = f"{name!r} can't be a label's name here"
            raise BadPointError(msg)
    return type_, same_names


def _type(keys: SeriesKeys, positions: Sequence[int]) -> MetricType:
    types = take(keys.types, positions)
    first: MetricType = types[0]
    other = first if all_equal(types) else next(each for each in types if each != first)
    for type_ in (first, other):
        # A member of a StrEnum may be formatted by its name.
        if type(type_) is not str or type_ not in get_args(MetricType):
            msg = f"{safe_repr(type_)} is not one of the types {', '.join(get_args(MetricType))}"
            raise BadPointError(msg)
    if other != first:
        point = keys.describe(positions[types.index(other)])
        msg = f"{point}: its type {other} is not that of its family, {first}"
        raise PointError(msg)
    return first


def _label_names(labels: Sequence[LabelPairs]) -> tuple[set[str], bool]:
    """All names of some labels, and whether all of these labels have the same names in the same order."""
    names: set[str] = set()
    same_names = True
    for start in range(0, len(labels), CHUNK):
        some = labels[start : start + CHUNK]
        # No lists, which could change while a template keeps them.
        if not _are_tuples(some) or not _are_tuples(pairs := [*chain.from_iterable(some)]) or {*map(len, pairs)} - {2}:
            shape = "a mapping or a tuple of pairs, ((name, value), ...)"
            msg = f"its labels must be {shape}, not {safe_repr(labels[0])}"
            raise BadPointError(msg)
        flat = [*chain.from_iterable(pairs)]
        if [*map(type, flat)].count(str) < len(flat):  # a quarter faster than a set of the types
            raise BadPointError(NO_TEXTS)
        first = [name for name, _ in labels[0]]
        if flat[0::2] != first * len(some) or list(map(len, some)).count(len(first)) < len(some):
            same_names = False
        if start == 0 or not same_names:
            names.update(flat[0::2])
    return names, same_names


def _are_tuples(values: Sequence[object]) -> bool:
    return all(issubclass(type_, tuple) for type_ in {*map(type, values)})
