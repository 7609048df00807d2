"""Gauges of several processes follow their mode as prometheus_client's own multiprocess mode does."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instrumentation.conftest import StartService
from tests.instrumentation.processes import LIBRARY, Samples, Service, service

MODES = ("all", "min", "max", "sum", "mostrecent")
BOTH = [live + mode for mode in MODES for live in ("", "live")]
MAKE = "\n".join(f"{mode} = Gauge('{mode}', 'g', multiprocess_mode='{mode}')" for mode in BOTH)
# How the library itself reports all processes, with names of processes in place of their ids.
COLLECT = """
import os
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
REGISTRY = CollectorRegistry()
MultiProcessCollector(REGISTRY)
"""


def scenario(service: Service, *, is_library: bool) -> list[Samples]:
    """Two workers set gauges, one is killed: what all of them report after each step."""
    steps = []
    pids = {name: service.fork(name, "" if is_library else "0") for name in ("1", "2")}

    def note() -> None:
        samples = service.samples()
        for name, pid in pids.items():
            samples = {series.replace(f'pid="{pid}"', f'worker="{name}"'): value for series, value in samples.items()}
        samples = {series.replace(f'pid="{service.pid}"', 'worker="main"'): value for series, value in samples.items()}
        steps.append(samples)

    for who, value in (("1", 3.5), ("2", -2.0), ("1", 7.0)):
        service.run("; ".join(f"{mode}.set({value})" for mode in BOTH), who)
        note()
    changing = [mode for mode in BOTH if "recent" not in mode]
    service.run("; ".join(f"{mode}.inc(2); {mode}.dec(0.5)" for mode in changing), "2")
    note()
    service.kill("1")
    if is_library:
        service.run(f"mark_process_dead({pids['1']})")
    note()
    return steps


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Service]:
    (tmp_path / "values").mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "values")}
    with service(f"{LIBRARY}\n{MAKE}\n{COLLECT}", tmp_path, env) as running:
        yield running


def test_each_mode_gives_what_the_library_gives(library: Service, start_service: StartService) -> None:
    shared = start_service(MAKE)
    assert scenario(shared, is_library=False) == scenario(library, is_library=True)


def test_a_successor_takes_over_the_number_and_what_counts_of_the_dead(start_service: StartService) -> None:
    shared = start_service(MAKE)
    for name in ("1", "2"):
        shared.fork(name, "; ".join(f"{mode}.set({name})" for mode in BOTH))
    shared.kill("1")
    dead = {'all{worker="1"}': 1, 'all{worker="2"}': 2, "min": 0, "max": 2, "sum": 3, "mostrecent": 2}
    live = {'liveall{worker="2"}': 2, "livemin": 0, "livemax": 2, "livesum": 2, "livemostrecent": 2}
    main = {'all{worker="main"}': 0, 'liveall{worker="main"}': 0}
    assert shared.samples() == {**dead, **live, **main}
    shared.fork("3", "; ".join(f"{mode}.set(-5)" for mode in BOTH))
    dead |= {'all{worker="1"}': -5, "min": -5, "sum": -2, "mostrecent": -5}
    live |= {'liveall{worker="1"}': -5, "livemin": -5, "livesum": -3, "livemostrecent": -5}
    assert shared.samples("2") == {**dead, **live, **main}
    shared.kill("3")
    shared.fork("4", "; ".join(f"{mode}.set(9)" for mode in BOTH))
    assert shared.samples("4")["min"] == -5
    assert shared.samples("4")["max"] == 9
    assert shared.samples("4")["sum"] == 1 - 5 + 9 + 2
    assert shared.samples("4")["livemin"] == 0


def test_the_greatest_and_the_least_of_the_dead_stay(start_service: StartService) -> None:
    shared = start_service("least = Gauge('least', 'l', ['a'], multiprocess_mode='min')")
    for nth, value in enumerate((5, 1, 3)):
        shared.fork(str(nth), f"least.labels('x').set({value})")
        shared.kill(str(nth))
    assert shared.samples() == {'least{a="x"}': 1}


def test_a_service_of_one_process_has_no_label_for_it(start_service: StartService) -> None:
    shared = start_service("depth = Gauge('depth', 'd', ['queue']); depth.labels('a').set(2)")
    assert shared.samples() == {'depth{queue="a"}': 2}
    shared.fork("1", "depth.labels('a').set(3)")
    assert shared.samples() == {'depth{queue="a",worker="main"}': 2, 'depth{queue="a",worker="1"}': 3}


def test_a_label_of_the_applications_own_stays(start_service: StartService) -> None:
    shared = start_service("jobs = Gauge('jobs', 'j', ['worker'])")
    shared.fork("1", "jobs.labels('mail').set(3)")
    assert shared.samples() == {'jobs{stator_worker="1",worker="mail"}': 3}


def test_not_a_number_is_a_value_like_any_other(start_service: StartService) -> None:
    shared = start_service("ratio = Gauge('ratio', 'r', multiprocess_mode='liveall')")
    shared.fork("1", "ratio.set(float('nan'))")
    assert re.fullmatch("nan", str(shared.samples()['ratio{worker="1"}']))


def test_a_gauge_with_a_function_is_the_answering_processs_own(start_service: StartService) -> None:
    shared = start_service("pid = Gauge('pid', 'p', ['kind']); import os; pid.labels('own').set_function(os.getpid)")
    child = shared.fork("1", "pid.labels('set').set(7)")
    assert shared.samples() == {'pid{kind="own"}': shared.pid, 'pid{kind="set",worker="1"}': 7}
    assert shared.samples("1") == {'pid{kind="own"}': child, 'pid{kind="set",worker="1"}': 7}
