"""How exposition formats differ."""

from collections.abc import Callable

from attrs import frozen

from stator.points import MetricType


@frozen(eq=False)
class Format:
    """One exposition format.

    Attributes:
        content_type: Its media type.
        utf8: Whether names beyond the legacy character set are quoted; otherwise they are escaped.
        header: Returns a family's header. Its arguments are the names of the family and of its samples, as they are
            written, the type, the description and the unit.
        stamp: Returns a sample's time, which it takes in Unix seconds, with a space before it.
        end: The text after the last family.
        sums_below_zero: Whether a histogram with bounds below zero has a sum, which then may fall, and a count.
        created_apart: Whether a family ``x_created`` may stand beside the counter, histogram or summary ``x``.
    """

    content_type: str
    utf8: bool
    header: Callable[[str, str, MetricType, str, str], str]
    stamp: Callable[[float], bytes]
    end: bytes = b""
    sums_below_zero: bool = True
    created_apart: bool = True
