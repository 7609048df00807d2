"""The standard families of a process, summed over all processes."""

import gc
import os
import resource
from collections.abc import Iterator

import psutil
import pytest

from stator.collectors.process import ProcessConfig
from stator.points import family_name
from stator.processes.service import ServiceProcesses
from tests.collectors.contexts import context

FAMILIES = {
    "process_cpu_seconds": "counter",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
}


@pytest.fixture
def values() -> Iterator[dict[str, float]]:
    before = list(gc.callbacks)
    points = list(ProcessConfig().build(context(processes=ServiceProcesses())).collect(0.0).points)
    assert {family_name("process", point.name, point.unit): point.type for point in points} == FAMILIES
    assert {point.labels for point in points} == {()}
    yield {family_name("process", point.name, point.unit): point.value for point in points}  # type: ignore[misc] # numbers
    gc.callbacks[:] = before


def test_the_numbers_are_those_that_psutil_reads(values: dict[str, float]) -> None:
    own = psutil.Process()
    spent = own.cpu_times()
    total = spent.user + spent.system + spent.children_user + spent.children_system
    assert values["process_cpu_seconds"] == pytest.approx(total, abs=0.5)
    assert values["process_virtual_memory_bytes"] == pytest.approx(own.memory_info().vms, rel=0.1)
    assert values["process_resident_memory_bytes"] == pytest.approx(own.memory_info().rss, rel=0.1)
    assert values["process_start_time_seconds"] == own.create_time()


def test_files_are_those_that_are_open_and_those_that_may_be(values: dict[str, float]) -> None:
    assert values["process_open_fds"] == pytest.approx(len(os.listdir("/proc/self/fd")), abs=2)  # noqa: PTH208
    assert values["process_max_fds"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_start_is_the_same_at_each_scrape_though_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = ProcessConfig().build(context(processes=ServiceProcesses()))

    def start() -> object:
        return next(point.value for point in collector.collect(0.0).points if point.name == "start_time")

    first, booted = start(), psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    assert start() == first
