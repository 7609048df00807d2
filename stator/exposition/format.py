"""How exposition formats differ."""

from collections.abc import Callable

from attrs import frozen

from stator.points import MetricType


@frozen(eq=False)
class Format:
    """One exposition format."""

    content_type: str
    utf8: bool  # whether names beyond the legacy character set are quoted; otherwise they are escaped
    # Returns a header by the names of the family and its samples, as they are written, type, description and unit.
    header: Callable[[str, str, MetricType, str, str], str]
    stamp: Callable[[float], bytes]  # returns a time in Unix seconds as text, with a space before it
    end: bytes = b""  # after the last family
    canonical_bounds: bool = False  # whether bounds and quantiles that are texts are written as numbers are
    exemplars: bool = False  # whether counters and buckets may have exemplars
    sums_below_zero: bool = True  # whether a histogram with bounds below zero has a sum, which may fall, and a count
    # Whether a counter's family is called `x_total` as its samples are: then a gauge `x` may stand beside it.
    named_by_samples: bool = True
    created_apart: bool = True  # whether a family `x_created` may stand beside the counter or distribution `x`
