"""What two exporters say of one host, and where they differ."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels, sorted."""

# Of an exporter itself: its version, and how long it took.
OWN = ("node_exporter_build_info", "stator_")
# Where it took how long, and with what success, one exporter can't know of the other.
UNCOMPARED = ("node_scrape_collector_",)
GAUGES_WITHIN = 0.02


class Told(NamedTuple):
    """What one exporter said.

    Attributes:
        values: Value of each series.
        types: Type of each name.
    """

    values: dict[Series, float]
    types: dict[str, str]


def told(exposition: bytes) -> Told:
    """What an exposition in Prometheus' text format says of the host."""
    found = Told({}, {})
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            if not sample.name.startswith(OWN):
                found.values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
                found.types[sample.name] = family.type
    return found


def differences(ours: Callable[[], bytes], theirs: Callable[[], bytes], rounds: int) -> list[str]:
    """Where they differ in all of so many rounds, a line each.

    In each round ours are asked before and after theirs. What only rises must be in between; what goes up and down may
    be 2 % beyond. A host does not stand still meanwhile, so a series that agreed once has agreed.
    """
    left: set[str] | None = None
    for _ in range(rounds):
        before, peer, after = told(ours()), told(theirs()), told(ours())
        seen = set(_names(before, peer)) | set(_types(before, peer)) | set(_values(before, peer, after))
        left = seen if left is None else left & seen
        if not left:
            break
    return sorted(left or ())


def _names(ours: Told, theirs: Told) -> Iterable[str]:
    yield from (f"only ours: {series}" for series in ours.values.keys() - theirs.values.keys())
    yield from (f"only theirs: {series}" for series in theirs.values.keys() - ours.values.keys())


def _types(ours: Told, theirs: Told) -> Iterable[str]:
    for name in ours.types.keys() & theirs.types.keys():
        if ours.types[name] != theirs.types[name]:
            yield f"{name}: its type is {ours.types[name]}, theirs {theirs.types[name]}"


def _values(before: Told, theirs: Told, after: Told) -> Iterable[str]:
    for series in before.values.keys() & theirs.values.keys() & after.values.keys():
        name, _ = series
        if name.startswith(UNCOMPARED):
            continue
        low, high = sorted((before.values[series], after.values[series]))
        # Two ways to the same number may differ in its last digit.
        slack = 1e-9 if theirs.types[name] == "counter" else GAUGES_WITHIN
        if not low - slack * abs(low) <= theirs.values[series] <= high + slack * abs(high):
            yield f"{series}: its value is not as theirs"
