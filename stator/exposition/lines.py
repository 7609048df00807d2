"""The heads of a family's lines: the text before each number, which stays the same as long as the labels do."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain, islice

from stator.exposition import escaping
from stator.exposition.columns import CHUNK
from stator.exposition.distributions import Shape, bounds_of, has_sum
from stator.exposition.format import Format
from stator.exposition.validation import RESERVED, BadPointError
from stator.points import LabelPairs, MetricType


def heads(
    sample: str, labels: Sequence[LabelPairs], *, common: LabelPairs, format_: Format, same_names: bool
) -> list[bytes]:
    """The heads of samples, one for each item of `labels`; with `same_names` all of these have the same, in order."""
    pattern = cache(partial(_pattern, sample, common, format_))
    written: list[bytes] = []
    for start in range(0, len(labels), CHUNK):
        some = labels[start : start + CHUNK]
        if same_names:
            patterns = pattern(_names(some[0])) * len(some)
        else:
            patterns = "".join([pattern(_names(own)) for own in some])
        text = patterns % tuple(_escaped_values(chain.from_iterable(some)))
        # Names and values have no line feeds, since these are escaped.
        written += text.encode().split(b"\n")[:-1]
    return written


def distribution_heads(
    write: Callable[[str, Sequence[LabelPairs]], list[bytes]],
    sample: str,
    type_: MetricType,
    labels: Sequence[LabelPairs],
    shapes: Sequence[Shape],
    format_: Format,
) -> list[bytes]:
    """The heads of each bucket or quantile, sum and count; `write` returns those of samples by name and labels."""
    bounds = {shape: bounds_of(shape, type_, format_) for shape in {*shapes}}  # most have the same
    pairs = zip(labels, shapes, strict=True)
    parts = [(*own, (RESERVED[type_], bound)) for own, shape in pairs for bound in bounds[shape]]
    buckets = iter(write(sample + ("_bucket" if type_ == "histogram" else ""), parts))
    sums, counts = write(f"{sample}_sum", labels), write(f"{sample}_count", labels)
    written: list[bytes] = []
    for shape, total, count in zip(shapes, sums, counts, strict=True):
        written += islice(buckets, len(shape))
        if has_sum(shape, type_, format_):
            written += (total, count)
    return written


def _pattern(sample: str, common: LabelPairs, format_: Format, names: tuple[str, ...]) -> str:
    """A head with `%s` in place of the value of each label that is not common, and a line feed."""
    written = [escaping.label(name, utf8=format_.utf8) for name in (*_names(common), *names)]
    if len({*written}) < len(written):
        msg = "a label appears twice"
        raise BadPointError(msg)
    # A percent sign is doubled, so that the operator `%` leaves it as it is.
    values = [*(value.replace("%", "%%") for value in _escaped_values(common)), *("%s" for _ in names)]
    pairs = [f'{name.replace("%", "%%")}="{value}"' for name, value in zip(written, values, strict=True)]
    return escaping.head(escaping.metric(sample, utf8=format_.utf8).replace("%", "%%"), pairs) + " \n"


def _names(labels: LabelPairs) -> tuple[str, ...]:
    return tuple([name for name, _ in labels])


def _escaped_values(pairs: Iterable[tuple[str, str]]) -> Sequence[str]:
    return escaping.escaped([value for _, value in pairs])
