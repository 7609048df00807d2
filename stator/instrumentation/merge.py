"""Merges what all processes have of a family into prometheus_client's samples."""

import json
from collections.abc import Iterable, Iterator
from math import inf
from typing import TypeAlias

from prometheus_client.samples import Sample

from stator.instrumentation.layout import FIRST_CELL, HEAD, OWNERS, ROW_CELLS, ROWS, is_unset
from stator.instrumentation.memory import Memory
from stator.instrumentation.naming import worker_label
from stator.instrumentation.reader import Family, Series

LabelSet: TypeAlias = frozenset[tuple[str, str]]
WORKER, OTHER_WORKER = "worker", "stator_worker"


class Merge:
    """The merged samples of one family.

    Gauges follow their mode, as https://prometheus.github.io/client_python/multiprocess/ has it, with the label
    ``worker`` in place of ``pid``: the process's name or the row's number, or ``main``.
    """

    def __init__(self, memory: Memory, family: Family, *, with_created: bool) -> None:
        self._memory, self._cells, self._family = memory, memory.cells, family
        self._with_created = with_created
        self._is_live: dict[int, bool] = {}

    def samples(self) -> list[Sample]:
        """Returns the samples, with their whole names."""
        family = self._family
        if family.type == "histogram":
            return list(self._histograms())
        if family.mode:
            return list(self._gauges())
        return list(self._counters())

    def _counters(self) -> Iterator[Sample]:
        family = self._family
        has_created = f"{family.name}_total", f"{family.name}_sum"
        for series in list(family.series.values()):
            total, created = self._total(series)
            if created < inf:
                yield Sample(series.sample, series.labels.copy(), total)
                if self._with_created and series.sample in has_created:
                    yield self._created(series, created)

    def _histograms(self) -> Iterator[Sample]:
        name = self._family.name
        for sums, buckets in self._family.distributions():
            total, created = self._total(sums)
            if created == inf:
                continue
            count = 0.0
            for bucket in buckets:
                count += self._total(bucket)[0]
                yield Sample(bucket.sample, bucket.labels.copy(), count)
            yield Sample(f"{name}_count", sums.labels.copy(), count)
            if float(buckets[0].labels["le"]) >= 0:  # as the library does: such a sum may fall
                yield Sample(sums.sample, sums.labels.copy(), total)
            if self._with_created:
                yield self._created(sums, created)

    def _created(self, series: Series, created: float) -> Sample:
        return Sample(f"{self._family.name}_created", series.labels.copy(), created)

    def _total(self, series: Series) -> tuple[float, float]:
        """Returns the sum over all rows and when the first was created; that is inf if no process has it any more."""
        cells, total, created = self._cells, 0.0, inf
        has_removed = False
        for cell in series.cells:
            note = cells[cell + 1]
            if note > 0:
                total += cells[cell]
                if note < created:  # noqa: PLR1730 # a call of min() takes as long as all the rest
                    created = note
            else:
                has_removed = True
        if has_removed:
            # What was removed in one process still counts while another has it, or else the sum would fall.
            # Added up in the same order: rounded otherwise, it might fall too.
            total = 0.0
            for cell in series.cells:
                if cells[cell + 1] > 0 or -cells[cell + 1] >= created:
                    total += cells[cell]
        return total, created

    def _gauges(self) -> Iterator[Sample]:
        mode = self._family.mode
        is_live, kind = mode.startswith("live"), mode.removeprefix("live")
        for series in list(self._family.series.values()):
            cells = [cell for cell in series.cells if not is_live or self._is_alive(_row(cell))]
            if kind == "all":
                yield from self._each(series, cells)
            elif (value := self._one(kind, cells)) is not None:
                yield Sample(series.sample, series.labels.copy(), value)

    def _each(self, series: Series, cells: Iterable[int]) -> Iterator[Sample]:
        """Yields a sample for each process that has a value."""
        values = {_row(cell): value for cell in cells if not is_unset(value := self._cells[cell])}
        if self._family.type == "info":
            if values:
                yield Sample(series.sample, series.labels.copy(), 1.0)
            return
        label = OTHER_WORKER if WORKER in series.labels else WORKER
        for row, value in sorted(values.items()):
            labels = series.labels.copy()
            if self._has_workers:
                labels[label] = worker_label(self._memory.heads, row)
            if self._family.type == "stateset":
                yield from _states(series.sample, labels, value)
            else:
                yield Sample(series.sample, labels, value)

    def _one(self, kind: str, cells: Iterable[int]) -> float | None:
        """Returns the one value of all processes, or None if none has one."""
        pairs = [(self._cells[cell], self._cells[cell + 1]) for cell in cells]
        if kind == "mostrecent":
            times = [(at, value) for value, at in pairs if at > 0 and not is_unset(value)]
            return max(times)[1] if times else None
        values = [value for value, _ in pairs if not is_unset(value)]
        if kind == "sum":
            return sum(values) if values else None
        # Notes are the least or the greatest values of dead processes; where only living ones count there are none.
        values += [note for _, note in pairs if not is_unset(note)]
        return (min if kind == "min" else max)(values) if values else None

    def _is_alive(self, row: int) -> bool:
        if row not in self._is_live:
            self._is_live[row] = self._memory.is_alive(row)
        return self._is_live[row]

    @property
    def _has_workers(self) -> bool:
        heads = self._memory.heads
        return any(heads[row * HEAD + OWNERS] for row in range(1, ROWS))


def distributions(memory: Memory, family: Family) -> Iterator[tuple[Series, list[float]]]:
    """Yields each series of a family that has bounds, with the counts of its buckets, and the sum, over all rows."""
    cells, length = memory.cells, len(family.bounds) + 2
    for series in list(family.series.values()):
        rows: list[list[float]] = [cells[cell : cell + length].tolist() for cell in series.cells]  # type: ignore[misc]
        yield series, rows[0] if len(rows) == 1 else [sum(column) for column in zip(*rows, strict=True)]


def without_worker(labels: LabelSet) -> LabelSet:
    """Returns the labels without the one for the process."""
    added = OTHER_WORKER if OTHER_WORKER in dict(labels) else WORKER
    return frozenset(pair for pair in labels if pair[0] != added)


def _states(enum: str, labels: dict[str, str], number: float) -> Iterator[Sample]:
    """Yields a sample for each state of an enum."""
    for nth, state in enumerate(json.loads(labels[enum])):
        yield Sample(enum, {**labels, enum: state}, float(nth == number))


def _row(cell: int) -> int:
    return (cell - FIRST_CELL) // ROW_CELLS
