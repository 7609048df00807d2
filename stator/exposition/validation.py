"""Why a point can't be exposed, in words that name it."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, get_args

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK, Columns, at, same_label_names, uniform
from stator.exposition.distributions import CLASSES, INVALID_VALUE, RESERVED, bad_bounds, every, numbers_of, shapes_of
from stator.exposition.format import Format
from stator.points import Labels, MetricType, PointError


def bad_key(key: str, type_: MetricType, *, utf8: bool) -> bool:
    """Whether this can't be a label's name."""
    # `..name..` would be written as `__name__`.
    return (
        not key or key == RESERVED.get(type_) or key.startswith("__") or escaping.label(key, utf8=utf8).startswith("__")
    )


def check(columns: Columns, points: Sequence[int], labels: list[Labels], *, utf8: bool) -> bool:
    """Refuses, by any ValueError or TypeError, what `worst` then finds and explains.

    Returns:
        Whether all points have the same names of labels in the same order.
    """
    types = at(columns.types, points)
    if not uniform(types) or not _is_type(types[0]):
        raise ValueError
    names_of_labels, are_alike = _keys_of(labels)
    common, _ = _keys_of([columns.common])
    texts = {columns.name, columns.names[points[0]], columns.units[points[0]]}
    if {*map(type, texts)} - {str}:
        raise TypeError
    if not columns.family(points[0])[0]:
        raise ValueError
    keys = names_of_labels | common
    "".join((*texts, *keys)).encode()  # a surrogate may be escaped, and so not be found later
    if any(bad_key(key, types[0], utf8=utf8) for key in keys):
        raise ValueError
    return are_alike


def shown(value: object) -> str:
    """A value as a message shows it, whatever it is."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 # anybody's, or an integer of thousands of digits
        return f"a value of the type {type(value).__name__}"


def check_duplicates(columns: Columns, points: Sequence[int], dialect: Format) -> None:
    """Refuses two points with the same name and labels, in whatever order.

    Raises:
        PointError: There are such.
    """
    seen: set[frozenset[tuple[str, str]]] = set()
    for position in points:
        own = columns.labels[position]
        # An empty label is none.
        series = frozenset((escaping.label(key, utf8=dialect.utf8), value) for key, value in own if value)
        if series in seen:
            msg = f"{columns.told(position)} comes twice"
            raise PointError(msg)
        seen.add(series)


def worst(columns: Columns, utf8: bool, *families: Sequence[int]) -> PointError:
    """The error that names the first point, of some families, that can't be exposed, and says why."""
    for points in families:
        for position in points:
            if reason := _reason(columns, position, columns.types[points[0]], utf8=utf8):
                return PointError(f"{columns.told(position)}: {reason}")
    return PointError(f"{columns.told(families[0][0])}: its family can't be written")


def _is_type(type_: Any) -> bool:
    # Not a text with a name, which would be written by that name.
    return type(type_) is str and type_ in get_args(MetricType)


def _reason(columns: Columns, position: int, type_: MetricType, *, utf8: bool) -> str | None:  # one for each rule
    """Why a point can't be exposed, if it can't."""
    own, value = columns.types[position], columns.values[position]
    if not _is_type(own):
        return f"{shown(own)} is none of the types {', '.join(get_args(MetricType))}"
    if own != type_:
        return f"its type {own} is not that of its family, {type_}"
    if reason := _bad_texts(columns, position):
        return reason
    keys = [key for key, _ in (*columns.common, *columns.labels[position])]
    for key in keys:
        if bad_key(key, type_, utf8=utf8):
            return f"{key!r} can't be a label's name here"
    if len({escaping.label(key, utf8=utf8) for key in keys}) < len(keys):
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
    if not are_texts:
        return "its name, description and labels must be texts in UTF-8, each a str"
    return None if columns.family(position)[0] else "its family has no name"


def _bad_value(value: Any, type_: MetricType) -> str | None:
    wanted = CLASSES.get(type_)
    if wanted and not isinstance(value, wanted):
        return f"{shown(value)} is no {wanted.__name__}"
    try:
        bounds = [float(numbers.text(bound)) for bound in shapes_of(type_, [value])[0]] if wanted else []
        if reason := bad_bounds(bounds, type_):
            return reason
        for number in every(value) if wanted else [value]:
            numbers.text(number)
    except INVALID_VALUE:
        return f"not all of {shown(value)} are numbers" if wanted else f"{shown(value)} is no number"
    try:
        if wanted:
            numbers_of(value)
        if type_ == "counter" and not value >= 0:
            raise ValueError
        if type_ == "info" and value != 1:
            raise ValueError
    except INVALID_VALUE:
        if wanted:
            return f"the counts of {shown(value)} must be zero or more, must not fall, nor exceed its own"
        return f"a counter can't be {shown(value)}" if type_ == "counter" else f"an info must be 1, not {shown(value)}"
    return None


def _keys_of(labels: Sequence[Labels]) -> tuple[set[str], bool]:
    """The names of some points' labels, and whether all of these have the same in the same order.

    Raises:
        TypeError: One of them is no tuple of pairs of texts. What could change behind our back would not be seen to.
    """
    keys: set[str] = set()
    are_alike = True
    first = [key for key, _ in labels[0]]
    for start in range(0, len(labels), CHUNK):
        some = labels[start : start + CHUNK]
        pairs = list(chain.from_iterable(some))
        flat = list(chain.from_iterable(pairs))
        if not all(issubclass(kind, tuple) for kind in {*map(type, some), *map(type, pairs)}):
            raise TypeError
        if list(map(len, pairs)).count(2) < len(pairs) or list(map(type, flat)).count(str) < len(flat):
            raise TypeError
        if not same_label_names(some, flat, first):
            keys.update(flat[0::2])
            are_alike = False
    return keys.union(first), are_alike
