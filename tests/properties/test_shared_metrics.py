"""Whatever processes do to shared metrics and however they end, all of them report what a model has."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.instrumentation.processes import LIBRARY, SHARE, Samples, Service, service

MODES = [live + mode for mode in ("all", "min", "max", "sum", "mostrecent") for live in ("", "live")]
WORKERS = ("1", "2", "3", "4")
BUCKETS = (1, 10)
# Metrics of one example, whose names nobody else has.
MAKE = f"""
made = []


def make(own):
    global hits, took, size, gauges
    for each in made: REGISTRY.unregister(each)
    hits = Counter(f"hits_{{own}}", "h", ["a"])
    took = Histogram(f"took_{{own}}", "t", ["a"], buckets={list(BUCKETS)})
    size = Summary(f"size_{{own}}", "s", ["a"])
    gauges = {{mode: Gauge(f"{{mode}}_{{own}}", "g", ["a"], multiprocess_mode=mode) for mode in {MODES}}}
    made[:] = [hits, took, size, *gauges.values()]
"""
# With its first metric a process takes a row.
ENTER = "Counter('entered', 'e', registry=None).inc()"


class Step(NamedTuple):
    """What one process does."""

    worker: str
    act: str  # inc, observe, set, add, remove, or kill
    what: str  # a gauge's mode
    label: str
    value: int


def steps(mode: str) -> st.SearchStrategy[list[Step]]:
    """Steps of a few processes that often do something to one gauge."""
    workers, values, labels = st.sampled_from(WORKERS), st.integers(-20, 20), st.sampled_from("xy")
    counting = st.builds(Step, workers, st.sampled_from(["inc", "observe"]), st.just(""), labels, st.integers(0, 20))
    changes = st.sampled_from(["set", "remove"] if mode.endswith("recent") else ["set", "set", "add", "remove"])
    changing = st.builds(Step, workers, changes, st.just(mode), st.just("x"), values)
    killing = st.builds(Step, workers, st.just("kill"), st.just(""), st.just(""), st.just(0))
    return st.lists(st.one_of(counting, changing, changing, killing), min_size=5, max_size=40)


def code(step: Step) -> str:
    """The step as a process runs it."""
    gauge = f"gauges[{step.what!r}]"
    return {
        "inc": f"hits.labels({step.label!r}).inc({step.value})",
        "observe": f"[each.labels({step.label!r}).observe({step.value}) for each in (took, size)]",
        "set": f"{gauge}.labels({step.label!r}).set({step.value})",
        "add": f"{gauge}.labels({step.label!r}).inc({step.value})",
        "remove": f"{gauge}.remove({step.label!r})",
    }[step.act]


class Model:
    """What all processes that ever lived have done."""

    def __init__(self) -> None:
        self.counted: Samples = {}
        # Of each gauge and label: the value of each process, and the last of all that have set it.
        self.gauges: dict[tuple[str, str], dict[tuple[str, int], int]] = {}
        self.last: dict[tuple[str, str], list[tuple[str, int]]] = {}
        self.lives = dict.fromkeys(WORKERS, 0)

    def do(self, step: Step) -> None:
        own = step.worker, self.lives[step.worker]
        gauge = self.gauges.setdefault((step.what, step.label), {})
        if step.act == "kill":
            self.lives[step.worker] += 1
        elif step.act == "inc":
            self._count(f"hits_total|{step.label}", step.value)
        elif step.act == "observe":
            for bound in (*BUCKETS, "+Inf"):
                self._count(f"took_bucket|{step.label}|{bound}", bound == "+Inf" or step.value <= int(bound))
            for name, value in (("count", 1), ("sum", step.value)):
                self._count(f"took_{name}|{step.label}", value)
                self._count(f"size_{name}|{step.label}", value)
        elif step.act == "remove" and own in gauge:  # a process removes nothing that it does not have
            del gauge[own]
            if step.what == "mostrecent":  # what its predecessors had is not kept beside its own
                for each in [each for each in gauge if each[0] == step.worker]:
                    del gauge[each]
        elif step.act in ("set", "add"):
            gauge[own] = step.value + (gauge.get(own, 0) if step.act == "add" else 0)
            order = self.last.setdefault((step.what, step.label), [])
            order[:] = [each for each in order if each != own] + [own]

    def _count(self, series: str, value: float) -> None:
        self.counted[series] = self.counted.get(series, 0) + value

    def samples(self) -> Samples:
        """All samples, as `comparable` writes them."""
        found = dict(self.counted)
        for (mode, label), every in self.gauges.items():
            is_all, is_live = mode.endswith("all"), mode.startswith("live")
            # A successor takes the place of a dead process whose row it has.
            living = {own: value for own, value in every.items() if self.lives[own[0]] == own[1]}
            counted = living if is_live or is_all else every
            if is_all:
                found |= {f"{mode}|{label}|{worker}": value for (worker, _), value in counted.items()}
            elif mode.endswith("mostrecent"):
                if order := [own for own in self.last.get((mode, label), ()) if own in counted]:
                    found[f"{mode}|{label}"] = counted[order[-1]]
            elif counted:
                numbers = list(counted.values())
                folded = {"min": min(numbers), "max": max(numbers), "sum": sum(numbers)}
                found[f"{mode}|{label}"] = folded[mode.removeprefix("live")]
        return found


def comparable(samples: Samples, own: str) -> Samples:
    """The samples of one example, by name and the values of their labels."""
    found = {}
    for series, value in samples.items():
        name, _, rest = series.removesuffix("}").partition("{")
        if own in name:
            labels = dict(pair.split("=") for pair in rest.split(",") if pair)
            parts = [labels[label].strip('"').removesuffix(".0") for label in ("a", "le", "worker") if label in labels]
            found["|".join([name.replace(f"_{own}", ""), *parts])] = value
    return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("shared")
    with service(f"{SHARE}\n{LIBRARY}\n{MAKE}", folder) as running:
        for worker in WORKERS:
            running.fork(worker, ENTER)
        yield running


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("mode", MODES)
@given(data=st.data())
def test_all_processes_report_what_they_have_done_together(shared: Service, mode: str, data: st.DataObject) -> None:
    own, done = f"e{next(_EXAMPLES)}", data.draw(steps(mode))
    model = Model()
    for worker in ("main", *WORKERS):
        shared.run(f"make({own!r})", worker)
    for step in done:
        model.do(step)
        if step.act == "kill":
            shared.kill(step.worker)
            shared.fork(step.worker, ENTER)
        else:
            shared.run(code(step), step.worker)
    for worker in ("main", *WORKERS):
        assert comparable(shared.samples(worker), own) == model.samples()


_EXAMPLES = iter(range(10**6))
