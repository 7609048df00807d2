"""Four workers as Stator shows them, and as prometheus_client's multiprocess mode does: the docs' comparison."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.programs import Program as Peer
from tests.integration.programs import free_ports
from tests.program import Program, eventually

WORKERS = 4
# As the library's documentation has it: https://prometheus.github.io/client_python/multiprocess/
APPLICATION = """\
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

class Orders:
    def collect(self):
        yield GaugeMetricFamily("orders_depth", "Orders that wait", 3)

REGISTRY.register(Orders())
answers = Counter("shop_answers", "Answers so far")
depth = Gauge("shop_depth", "Orders that a worker has")
live_depth = Gauge("shop_live_depth", "Orders that a worker has", multiprocess_mode="liveall")
depth.set(1)
live_depth.set(1)

def app(environ, start_response):
    answers.inc()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return make_wsgi_app(registry)(environ, start_response)
"""
GUNICORN = """\
from prometheus_client.multiprocess import mark_process_dead

def child_exit(server, worker):
    mark_process_dead(worker.pid)
"""
COLLECTOR = """\
from stator import Point, PointsAt

class Orders:
    def collect(self, now):
        return PointsAt("orders", now, points=[Point("depth", "Orders that wait", 3)])
"""
# What tells of a process and its interpreter, by the names that both have for it.
OF_PROCESSES = ("pyrt_", "process_", "python_")

Samples: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Shop(Peer):
    """An instrumented application under gunicorn, which shows what prometheus_client's multiprocess mode does."""

    def __init__(self, numbers: Path, folder: Path) -> None:
        (port,) = free_ports(1)
        (folder / "shop.py").write_text(APPLICATION)
        (folder / "gunicorn.conf.py").write_text(GUNICORN)
        gunicorn = [sys.executable, "-m", "gunicorn", "--no-control-socket", f"--workers={WORKERS}"]
        where = [f"--bind=127.0.0.1:{port}", f"--chdir={folder}", f"--config={folder}/gunicorn.conf.py", "shop:app"]
        super().__init__(["env", f"PROMETHEUS_MULTIPROC_DIR={numbers}", *gunicorn, *where], port, folder)

    def ready(self) -> bool:
        return bool(self.get("/metrics"))

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children()


class Both(NamedTuple):
    """The two beside each other, and the folder in which the application's processes keep their numbers."""

    stator: Program
    shop: Shop
    numbers: Path

    def mine(self) -> Samples:
        return samples(self.stator.get("/metrics").body)

    def theirs(self) -> Samples:
        return samples(self.shop.get("/metrics"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    numbers, plugins = tmp_path_factory.mktemp("numbers"), tmp_path_factory.mktemp("plugins")
    (plugins / "orders.py").write_text(COLLECTOR)
    env = {
        "STTR_SERVER_WORKERS": str(WORKERS),
        "STTR_COLLECTORS": "runtime,process,orders,prometheus_client",
        "STTR_PLUGINS_PATH": str(plugins),
        "PROMETHEUS_MULTIPROC_DIR": str(numbers),
    }
    with (
        Shop(numbers, tmp_path_factory.mktemp("shop")) as shop,
        Program(env, tmp_path_factory.mktemp("stator")) as stator,
    ):
        stator.wait_for("ready")
        eventually(lambda: len(named(samples(stator.get("/metrics").body), "pyrt_threads")) == WORKERS + 2)
        eventually(lambda: len(list(numbers.glob("counter_*"))) == WORKERS)
        yield Both(stator, shop, numbers)


def samples(body: bytes) -> Samples:
    families = text_string_to_metric_families(body.decode())
    found = (sample for family in families for sample in family.samples)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}


def named(samples: Samples, name: str) -> list[dict[str, str]]:
    """Labels of a name's samples."""
    return [dict(labels) for each, labels in samples if each == name]


def value(samples: Samples, name: str) -> float:
    """The value of the only sample of a name."""
    (found,) = (number for (each, _), number in samples.items() if each == name)
    return found


def killed(workers: Callable[[], list[psutil.Process]]) -> str:
    """Kills a worker, waits until it's replaced, and gives its process id."""
    victim = workers()[0]
    victim.kill()
    eventually(lambda: len(workers()) == WORKERS and victim.pid not in [each.pid for each in workers()])
    return str(victim.pid)


def test_each_process_is_told_by_whichever_of_our_workers_answers(both: Both) -> None:
    def answered() -> bool:
        told = named(both.mine(), "pyrt_cpu_user_seconds_total")
        assert sorted(each["role"] for each in told) == ["arbiter", "main", *["worker"] * WORKERS]
        return len({line["worker_id"] for line in both.stator.lines("sending response")}) > 1

    eventually(answered)
    mine = both.mine()
    processes = {each["process_id"] for each in named(mine, "pyrt_cpu_user_seconds_total")}
    for name in ("pyrt_mem_resident_bytes", "pyrt_threads", "pyrt_open_fds", "pyrt_info"):
        assert {each["process_id"] for each in named(mine, name)} == processes
    of_each_generation = {(process, generation) for process in processes for generation in "012"}
    for name in ("pyrt_gc_collections_total", "pyrt_gc_duration_seconds_total"):
        assert {(each["process_id"], each["generation"]) for each in named(mine, name)} == of_each_generation


def test_the_service_has_the_standard_families_of_a_process(both: Both) -> None:
    mine = both.mine()
    resident = sum(number for (name, _), number in mine.items() if name == "pyrt_mem_resident_bytes")
    assert value(mine, "process_resident_memory_bytes") == pytest.approx(resident, rel=0.1)
    assert {name for name, _ in mine if name.startswith("process_")} == {
        *("process_cpu_seconds_total", "process_start_time_seconds", "process_open_fds", "process_max_fds"),
        *("process_resident_memory_bytes", "process_virtual_memory_bytes"),
    }


def test_their_multiprocess_mode_tells_of_no_process_nor_of_garbage_collection(both: Both) -> None:
    theirs = {name for name, _ in both.theirs()}
    assert "shop_answers_total" in theirs
    assert [name for name in theirs if name.startswith(OF_PROCESSES)] == []


def test_a_custom_collector_is_asked_by_us_alone(both: Both) -> None:
    assert value(both.mine(), "orders_depth") == 3
    assert named(both.theirs(), "orders_depth") == []


def test_the_applications_own_counters_are_summed_by_both_also_when_a_worker_is_killed(both: Both) -> None:
    before = value(both.theirs(), "shop_answers_total")
    killed(lambda: both.shop.workers)
    after = value(both.theirs(), "shop_answers_total")
    assert after > before
    assert value(both.mine(), "shop_answers_total") == after


def test_a_worker_of_ours_that_is_killed_is_no_longer_told_and_the_services_cpu_time_goes_on(both: Both) -> None:
    before = value(both.mine(), "process_cpu_seconds_total")
    dead = killed(lambda: both.stator.workers)
    eventually(lambda: len(named(both.mine(), "pyrt_threads")) == WORKERS + 2)
    mine = both.mine()
    assert dead not in {labels.get("process_id") for labels in map(dict, (labels for _, labels in mine))}
    assert value(mine, "process_cpu_seconds_total") >= before


def test_their_gauges_of_a_worker_that_was_killed_stay_but_for_those_of_live_ones(both: Both) -> None:
    dead = killed(lambda: both.shop.workers)
    eventually(lambda: dead not in [each["pid"] for each in named(both.theirs(), "shop_live_depth")])
    assert dead in [each["pid"] for each in named(both.theirs(), "shop_depth")]


def test_their_files_become_more_with_each_worker_and_we_have_none(both: Both) -> None:
    before = len(list(both.numbers.glob("counter_*")))
    killed(lambda: both.stator.workers)
    dead = killed(lambda: both.shop.workers)
    eventually(lambda: len(list(both.numbers.glob("counter_*"))) > before)
    assert (both.numbers / f"counter_{dead}.db").exists()
    ours = {str(each.pid) for each in both.stator.processes()}
    assert ours.isdisjoint(file.stem.split("_")[-1] for file in both.numbers.iterdir())
    assert {file.name for file in both.stator.stdout.parent.iterdir()} == {"stdout", "stderr"}
