"""Numbers as text: the shortest that reads back as the same number, in bulk.

orjson writes a list of numbers many times faster than Python writes each of them. What JSON has no word for is told by
what orjson writes in its place, and done apart.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

# A letter of each thing that orjson writes for what is no plain number: null for NaN and the infinities; true and
# false; texts, mappings, lists.
_STRANGE = b'ntf"{['


def joined(values: Sequence[Any]) -> bytes:
    """All values' texts, with commas between them.

    Raises:
        TypeError: A value is no number.
    """
    try:
        json = _dumps()(values)[1:-1]
    except TypeError:  # an integer beyond 64 bits, or what orjson does not know
        return _joined_apart(values)
    return json if _is_plain(json) else _joined_apart(values)


def split(joined: bytes, after: bytes = b"") -> list[bytes]:
    """The texts that were joined, with the same bytes after each."""
    if after:
        joined = joined.replace(b",", after + b",") + after
    return joined.split(b",")


@cache
def _dumps() -> Callable[[Sequence[Any]], bytes]:
    from orjson import dumps  # slow to import

    return dumps


def _is_plain(json: bytes) -> bool:
    # One byte is found many times faster than several, and as an integer quicker than as a text.
    return not any(map(json.__contains__, _STRANGE))


def _joined_apart(values: Sequence[Any]) -> bytes:
    return ",".join(map(text, values)).encode()


def text(value: float) -> str:
    """One number's text; True and False are 1 and 0.

    Raises:
        TypeError: It is no number.
    """
    # The plain types' own repr, since that of a class made from them, as bool or NumPy's floats, may be any text.
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, str | bytes):
        msg = f"{value!r} is no number"
        raise TypeError(msg)
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return float.__repr__(number)


def bound(number: float) -> str:
    """A bucket's bound or a quantile as a label's value, where the text must be the same whoever writes it.

    https://prometheus.io/docs/specs/om/open_metrics_spec/#considerations-canonical-numbers
    """
    plain = text(number)
    whole, point, fraction = plain.lstrip("-").partition(".")
    if not point or "e" in fraction or len(whole) <= 6:
        return plain
    sign = "-" if number < 0 else ""
    digits = (whole + fraction).rstrip("0")
    rest = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{rest}e+{len(whole) - 1:02}"
