"""The runtime collector reports this process."""

import gc
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from stator.collectors.runtime import Runtime, RuntimeConfig
from stator.points import Point, family_name
from stator.processes.service import ServiceProcesses
from tests.collectors.contexts import context

FAMILIES = {
    "pyrt_cpu_user_seconds": "counter",
    "pyrt_cpu_system_seconds": "counter",
    "pyrt_mem_resident_bytes": "gauge",
    "pyrt_mem_virtual_bytes": "gauge",
    "pyrt_threads": "gauge",
    "pyrt_open_fds": "gauge",
    "pyrt_start_time_seconds": "gauge",
    "pyrt_gc_collections": "counter",
    "pyrt_gc_collected_objects": "counter",
    "pyrt_gc_uncollectable_objects": "counter",
    "pyrt_gc_duration_seconds": "counter",
    "pyrt_allocated_blocks": "gauge",
    "pyrt_info": "info",
}


def built(processes: ServiceProcesses) -> Runtime:
    return RuntimeConfig().build(context(processes=processes))


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    before = list(gc.callbacks)
    yield built(ServiceProcesses())
    gc.callbacks[:] = before


def points(runtime: Runtime) -> list[Point]:
    return list(runtime.collect(0.0).points)


def values(runtime: Runtime) -> dict[tuple[str, ...], float]:
    """Values by family's name and label values."""
    return {
        (family_name("pyrt", point.name, point.unit), *[*dict(point.labels).values()][1:]): point.value  # type: ignore[misc] # numbers
        for point in points(runtime)
    }


def test_every_family_is_there_with_its_type(runtime: Runtime) -> None:
    assert {family_name("pyrt", point.name, point.unit): point.type for point in points(runtime)} == FAMILIES


def test_all_points_are_labelled_with_application_run_and_process(runtime: Runtime) -> None:
    points_at = runtime.collect(12.5)
    assert (points_at.name, points_at.stamp) == ("pyrt", 12.5)
    assert points_at.labels == (("app_id", "stator"), ("run_id", "I90Ltn4"))
    assert {dict(point.labels)["process_id"] for point in points_at.points} == {str(os.getpid())}


def test_each_process_is_labelled_with_its_role() -> None:
    processes = ServiceProcesses(1)
    processes.register("worker", 1)
    (point,) = (each for each in points(built(processes)) if each.name == "threads")
    assert point.labels == (("process_id", str(os.getpid())), ("role", "worker"), ("worker", "1"))
    gc.callbacks.pop()


def test_garbage_collections_are_counted_by_generation(runtime: Runtime) -> None:
    for name in ("gc_collections", "gc_collected_objects", "gc_uncollectable_objects", "gc_duration"):
        generations = [dict(point.labels)["generation"] for point in points(runtime) if point.name == name]
        assert generations == ["0", "1", "2"]


def test_counters_never_go_down(runtime: Runtime) -> None:
    counters = [family for family, type_ in FAMILIES.items() if type_ == "counter"]
    scrapes = [values(runtime)]
    for _ in range(5):
        gc.collect()
        scrapes.append(values(runtime))
    for before, after in pairwise(scrapes):
        assert all(after[key] >= before[key] for key in before if key[0] in counters)


def test_a_garbage_collection_is_counted_with_its_time_and_objects(runtime: Runtime) -> None:
    before = values(runtime)
    circle: list[object] = []
    circle.append(circle)
    del circle
    gc.collect()
    after = values(runtime)
    for family in ("pyrt_gc_collections", "pyrt_gc_collected_objects", "pyrt_gc_duration_seconds"):
        assert after[family, "2"] > before[family, "2"]


def test_an_open_file_counts(runtime: Runtime) -> None:
    before = values(runtime)["pyrt_open_fds",]
    fd = os.open("/", os.O_RDONLY)
    after = values(runtime)["pyrt_open_fds",]
    os.close(fd)
    assert after == before + 1


def test_a_live_thread_counts(runtime: Runtime) -> None:
    before = values(runtime)["pyrt_threads",]
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    after = values(runtime)["pyrt_threads",]
    done.set()
    thread.join()
    assert after == before + 1


def test_memory_and_time_are_in_base_units(runtime: Runtime) -> None:
    reported = values(runtime)
    pages = Path("/proc/self/statm").read_text("ascii").split()
    virtual, resident = (int(number) * os.sysconf("SC_PAGE_SIZE") for number in pages[:2])
    assert reported["pyrt_mem_virtual_bytes",] == pytest.approx(virtual, rel=0.1)
    assert reported["pyrt_mem_resident_bytes",] == pytest.approx(resident, rel=0.1)
    assert reported["pyrt_cpu_user_seconds",] == pytest.approx(os.times().user, abs=0.5)
    assert reported["pyrt_cpu_system_seconds",] == pytest.approx(os.times().system, abs=0.5)
    assert psutil.boot_time() - 1 < reported["pyrt_start_time_seconds",] < time.time() + 1
    assert reported["pyrt_allocated_blocks",] == pytest.approx(sys.getallocatedblocks(), rel=0.1)


def test_info_has_implementation_and_version(runtime: Runtime) -> None:
    (info,) = (point for point in points(runtime) if point.name == "info")
    assert info.value == 1
    assert dict(info.labels) == {
        "process_id": str(os.getpid()),
        "implementation": platform.python_implementation(),
        "version": platform.python_version(),
    }


def test_after_a_fork_it_reports_the_child(runtime: Runtime) -> None:
    runtime.collect(0.0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            points_at = runtime.collect(0.0)
            started = next(point.value for point in points_at.points if point.name == "start_time")
            process_id = next(dict(point.labels)["process_id"] for point in points_at.points)
            os.write(writer, f"{process_id} {started}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as output:
        process_id, child_started = output.read().split()
    os.waitpid(child, 0)
    assert int(process_id) == child
    assert float(child_started) > psutil.Process().create_time()
