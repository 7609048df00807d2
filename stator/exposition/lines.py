"""The heads of a family's lines: the text before each number, which stays the same as long as the labels do."""

from collections.abc import Iterable, Sequence
from itertools import chain, islice

from stator.exposition import escaping, numbers
from stator.exposition.columns import CHUNK
from stator.exposition.distributions import RESERVED, bad_bounds, has_sum
from stator.exposition.format import Format
from stator.points import LabelPairs, MetricType


class HeadWriter:
    """Writes the heads of one family's lines.

    Args:
        sample: The name of the samples, without a suffix such as `_bucket`.
        common: Labels of every line.
        format_: The format that they are written in.
        same_names: Whether all points have the same names of labels in the same order.
    """

    def __init__(self, sample: str, common: LabelPairs, format_: Format, *, same_names: bool) -> None:
        self._sample, self._format, self._same_names = sample, format_, same_names
        self._common_names = [escaping.label(name, utf8=format_.utf8) for name, _ in common]
        values = escaping.escaped([value for _, value in common])
        self._common = [f'{name}="{value}"' for name, value in zip(self._common_names, values, strict=True)]

    def of(self, labels: Sequence[LabelPairs], suffix: str = "") -> list[bytes]:
        """One head for each point, out of its labels.

        Raises:
            ValueError: A label appears twice.
        """
        heads: list[bytes] = []
        for start in range(0, len(labels), CHUNK):
            some = labels[start : start + CHUNK]
            if self._same_names:  # one operation writes them all
                text = self._pattern(some[0], suffix) * len(some) % _values(chain.from_iterable(some))
            else:
                text = "".join(self._pattern(own, suffix) % _values(own) for own in some)
            # Names and values have no line feeds, since these are escaped.
            heads += text.encode().split(b"\n")[:-1]
        return heads

    def of_distributions(
        self, type_: MetricType, labels: Sequence[LabelPairs], shapes: Sequence[tuple[float, ...]]
    ) -> list[bytes]:
        """The heads of each histogram or summary: one for each bucket or quantile, then those of its sum and count.

        Raises:
            INVALID_VALUE: Bounds or quantiles are not as they must be.
        """
        key, suffix = RESERVED[type_], "_bucket" if type_ == "histogram" else ""
        listed: list[LabelPairs] = []
        for own, shape in zip(labels, shapes, strict=True):
            bounds = [float(numbers.text(bound)) for bound in shape]
            if bad := bad_bounds(bounds, type_):
                raise ValueError(bad)
            listed += ((*own, (key, numbers.bound(bound))) for bound in bounds)
        buckets = iter(self.of(listed, suffix))
        heads: list[bytes] = []
        for shape, total, count in zip(shapes, self.of(labels, "_sum"), self.of(labels, "_count"), strict=True):
            heads += islice(buckets, len(shape))
            if has_sum(shape, type_, self._format):
                heads += (total, count)
        return heads

    def _pattern(self, labels: LabelPairs, suffix: str) -> str:
        """A head with `%s` in place of each label's value, and a line feed."""
        names = [escaping.label(name, utf8=self._format.utf8) for name, _ in labels]
        if len({*self._common_names, *names}) < len(self._common_names) + len(names):
            raise ValueError  # `explain` names the label
        sample = escaping.metric(self._sample + suffix, utf8=self._format.utf8)
        pairs = [*map(_literal, self._common), *(f'{_literal(name)}="%s"' for name in names)]
        return escaping.head(_literal(sample), pairs) + " \n"


def _literal(text: str) -> str:
    """A text that the operator `%` leaves as it is."""
    return text.replace("%", "%%")


def _values(pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(escaping.escaped([value for _, value in pairs]))
