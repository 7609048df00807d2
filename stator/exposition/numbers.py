"""Numbers as text, the shortest that reads back as the same number: in bulk by msgspec, which is many times faster."""

import math
from collections.abc import Sequence
from typing import Any

from msgspec.json import encode

# A letter of each JSON value that is not a number; msgspec makes null of NaN and the infinities.
_NOT_A_NUMBER = b'ntf"{['


def joined(values: Sequence[Any]) -> bytes:
    """All values' texts, with commas between them; raises OverflowError for an integer that is beyond every float."""
    try:
        # Reads each as a float. Prometheus refuses what can't be read so, and with it the whole scrape.
        sum(values, 0.0)
        json = encode(values)[1:-1]
    except TypeError:
        json = b"null"  # of a type that is added to no float, or that msgspec does not know
    # Searching for one byte at a time is the fastest, and faster with an integer than with bytes.
    if any(map(json.__contains__, _NOT_A_NUMBER)):
        return ",".join(map(text, values)).encode()
    # With a sign, as Python and Go write it: 1e+16.
    return json.replace(b"e", b"e+").replace(b"e+-", b"e-") if b"e" in json else json


def text(value: float) -> str:
    """One number's text; True and False are 1 and 0.

    Raises:
        TypeError: It's a text, which `float` would read.
        OverflowError: It's an integer that is beyond every float.
    """
    if isinstance(value, str | bytes):
        raise TypeError
    number = float(value)
    # The repr of the plain types, since that of a subclass, such as bool or NumPy's floats, may be any text.
    if isinstance(value, int):
        return int.__repr__(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "+Inf" if number > 0 else "-Inf"
    return float.__repr__(number)


def bound(number: float) -> str:
    """A bucket's bound or a quantile as a label's value, where each exporter must write the same text."""
    # https://prometheus.io/docs/specs/om/open_metrics_spec/#considerations-canonical-numbers
    plain = text(number)
    whole, point, fraction = plain.lstrip("-").partition(".")
    if not point or "e" in fraction or len(whole) <= 6:
        return plain
    sign = "-" if number < 0 else ""
    digits = (whole + fraction).rstrip("0")
    rest = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{rest}e+{len(whole) - 1:02}"
