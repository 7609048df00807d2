"""Validates points.

`validate_fast` validates a family's points at once, without saying what is wrong. Where it fails, or a number does,
`explain` validates one point after the other, and says it.
"""

from collections.abc import Sequence, Set
from itertools import chain
from typing import Any, get_args

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK, Series, SeriesKeys, all_equal, safe_repr, take
from stator.exposition.distributions import CLASSES, INVALID_VALUE, RESERVED, bad_bounds, numbers_of, shapes_of
from stator.exposition.format import Format
from stator.points import Histogram, LabelPairs, MetricType, PointError


def validate_fast(keys: SeriesKeys, positions: Sequence[int], labels: list[LabelPairs], format_: Format) -> bool:
    """Validates all that a family's points have but their values.

    Args:
        keys: The keys of all the source's points.
        positions: The positions of the family's points among them.
        labels: The labels of the family's points.
        format_: The format.

    Returns:
        Whether all of these labels have the same names in the same order.

    Raises:
        ValueError, TypeError: A point is bad; `explain` finds it.
    """
    first = positions[0]
    types = take(keys.types, positions)
    if not all_equal(types) or not _is_type(types[0]):
        raise ValueError
    names, same_names = _label_names(labels)
    names |= _label_names([keys.common])[0]
    texts = {keys.name, keys.names[first], keys.units[first]}
    if {*map(type, texts)} - {str}:
        raise TypeError
    if not keys.family(first)[0]:
        raise ValueError
    "".join((*texts, *names)).encode()  # finds surrogates, which escaping may replace
    if any(_is_bad_name(name, types[0], format_) for name in names):
        raise ValueError
    return same_names


def check_duplicates(
    keys: SeriesKeys, positions: Sequence[int], format_: Format, there: Set[Series] = frozenset()
) -> None:
    """Refuses a family's points if one has the same series as another of them, or as one that is there.

    Raises:
        PointError: There is such a point.
    """
    seen: set[Series] = set()
    for position in positions:
        series = keys.series(position, utf8=format_.utf8)
        if series in seen or series in there:
            msg = f"{keys.describe(position)} appears twice"
            raise PointError(msg)
        seen.add(series)


def explain(keys: SeriesKeys, values: list[Any], families: Sequence[Sequence[int]], format_: Format) -> PointError:
    """Returns an error that names the first bad point, and says what is wrong with it.

    Args:
        keys: The keys of all the source's points.
        values: Their values.
        families: The positions of the points of each family that may have a bad one.
        format_: The format.
    """
    for positions in families:
        for position in positions:
            if reason := _reason(keys, position, values[position], keys.types[positions[0]], format_):
                return PointError(f"{keys.describe(position)}: {reason}")
    return PointError(f"{keys.describe(families[0][0])}: its family can't be written")


def _is_type(type_: Any) -> bool:
    # A member of a StrEnum may be formatted by its name.
    return type(type_) is str and type_ in get_args(MetricType)


def _is_bad_name(name: str, type_: MetricType, format_: Format) -> bool:
    """Whether this can't be a label's name."""
    reserved = name.startswith("__") or name == RESERVED.get(type_)
    # `..name..` would be written as `__name__`.
    return not name or reserved or escaping.label(name, utf8=format_.utf8).startswith("__")


def _reason(keys: SeriesKeys, position: int, value: Any, type_: MetricType, format_: Format) -> str | None:
    """Why a point can't be exposed, or None."""
    own = keys.types[position]
    if not _is_type(own):
        return f"{safe_repr(own)} is not one of the types {', '.join(get_args(MetricType))}"
    if own != type_:
        return f"its type {own} is not that of its family, {type_}"
    if reason := _bad_texts(keys, position):
        return reason
    names = [name for name, _ in (*keys.common, *keys.labels[position])]
    for name in names:
        if _is_bad_name(name, type_, format_):
            return f"{name!r} can't be a label's name here"
    if len({escaping.label(name, utf8=format_.utf8) for name in names}) < len(names):
        return "a label appears twice"
    return _bad_distribution(value, type_) if type_ in CLASSES else _bad_number(value, type_)


def _bad_texts(keys: SeriesKeys, position: int) -> str | None:
    own: Any = keys.labels[position]
    for labels in (keys.common, own):
        if not isinstance(labels, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in labels):
            return f"its labels must be a mapping or a tuple of pairs, ((name, value), ...), not {safe_repr(labels)}"
    texts = (keys.name, keys.names[position], keys.units[position], keys.descs[position])
    every: tuple[Any, ...] = (*texts, *chain.from_iterable((*keys.common, *own)))
    try:
        "".join(every).encode()
    except (TypeError, ValueError):
        every = (None,)
    if {*map(type, every)} != {str}:
        return "its name, description and labels must be texts in UTF-8, each a str"
    return None if keys.family(position)[0] else "its family has no name"


def _bad_number(value: Any, type_: MetricType) -> str | None:
    text = safe_repr(value)
    try:
        numbers.text(value)
    except INVALID_VALUE:
        return f"{text} is not a number"
    if type_ == "info" and value != 1:
        return f"an info must be 1, not {text}"
    try:
        is_bad = type_ == "counter" and not value >= 0
    except INVALID_VALUE:  # Decimal's NaN can't be compared
        is_bad = True
    return f"a counter can't be {text}" if is_bad else None


def _bad_distribution(value: Any, type_: MetricType) -> str | None:
    text = safe_repr(value)
    if not isinstance(value, CLASSES[type_]):
        return f"{text} is not a {CLASSES[type_].__name__}"
    try:
        bounds = [float(numbers.text(bound)) for bound in shapes_of(type_, [value])[0]]
        if reason := bad_bounds(bounds, type_):
            return reason
        parts = value.buckets if isinstance(value, Histogram) else value.quantiles
        for number in (*(number for _, number in parts), value.sum, value.count):
            numbers.text(number)
    except INVALID_VALUE:
        return f"not all of {text} are numbers"
    try:
        numbers_of(value)
    except INVALID_VALUE:
        return f"the counts of {text} must be zero or more, must not fall, nor exceed its own"
    return None


def _label_names(labels: Sequence[LabelPairs]) -> tuple[set[str], bool]:
    """All names of some labels, and whether all of these labels have the same names in the same order.

    Raises:
        TypeError: Some labels are not a tuple of pairs of texts. A list could change while a template keeps it.
    """
    names: set[str] = set()
    same_names = True
    first = [name for name, _ in labels[0]]
    for start in range(0, len(labels), CHUNK):
        some = labels[start : start + CHUNK]
        pairs = list(chain.from_iterable(some))
        flat = list(chain.from_iterable(pairs))
        if not all(issubclass(type_, tuple) for type_ in {*map(type, some), *map(type, pairs)}):
            raise TypeError
        if list(map(len, pairs)).count(2) < len(pairs) or list(map(type, flat)).count(str) < len(flat):
            raise TypeError
        if flat[0::2] != first * len(some) or list(map(len, some)).count(len(first)) < len(some):
            names.update(flat[0::2])
            same_names = False
    return names.union(first), same_names
