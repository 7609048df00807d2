"""Metrics of several processes are one, however the processes come about and end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.instrumentation.conftest import StartService
from tests.instrumentation.processes import LIBRARY, SHARE
from tests.instrumentation.scraping import counts
from tests.program import ROOT

MAKE = """
hits = Counter("hits", "h", ["path"])
took = Histogram("took", "t", buckets=[1, 2])
size = Summary("size", "s")
"""
REQUESTS = """
from wsgiref.util import setup_testing_defaults

app = stator.wsgi_app(lambda environ, start: [b"" if start("200 OK", []) else b""], environ={}, collectors=[])


def ask(path="/"):
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    return b"".join(app(environ, lambda *_: None))


metrics = lambda: ask("/metrics").decode()
"""


def test_each_process_reports_what_all_have_counted(start_service: StartService) -> None:
    service = start_service(MAKE)
    service.run("hits.labels('a').inc(2)")
    service.fork("1", "hits.labels('a').inc(); took.observe(1.5); size.observe(3)")
    service.fork("2", "hits.labels('b').inc(); took.observe(9); size.observe(4)")
    expected = {
        'hits_total{path="a"}': 3,
        'hits_total{path="b"}': 1,
        'took_bucket{le="1.0"}': 0,
        'took_bucket{le="2.0"}': 1,
        'took_bucket{le="+Inf"}': 2,
        "took_count": 2,
        "took_sum": 10.5,
        "size_count": 2,
        "size_sum": 7,
    }
    assert service.samples() == service.samples("1") == service.samples("2") == expected


def test_sums_of_fractions_are_the_same_in_each_process_to_the_last_digit(start_service: StartService) -> None:
    shop = start_service("taken = Counter('taken', 't', ['at'])")
    processes = ("1", "2", "3", "4")
    for who in processes:
        shop.fork(who, "taken.labels('away').inc()")
    for who, amount in (("3", 0.1), ("1", 0.2), ("4", 0.3), ("2", 0.7)):
        shop.run(f"taken.labels('home').inc({amount})", who)
        shop.samples("4")  # it finds the rows in another order than those that are first asked in the end
    assert len({shop.samples(who)['taken_total{at="home"}'] for who in processes}) == 1


def test_the_librarys_own_exposition_is_right_as_well(start_service: StartService) -> None:
    service = start_service(MAKE)
    service.fork("1", "hits.labels('a').inc(2)")
    assert 'hits_total{path="a"} 2.0\n' in service.run("generate_latest(REGISTRY).decode()")
    assert service.run("REGISTRY.get_sample_value('hits_total', {'path': 'a'})") == 2
    restricted = service.run("generate_latest(REGISTRY.restricted_registry(['hits_total'])).decode()")
    assert 'hits_total{path="a"} 2.0\n' in restricted


def test_a_metric_that_only_another_process_has_is_reported(start_service: StartService) -> None:
    service = start_service()
    service.fork("1", "Counter('late', 'Made late').inc()")
    service.fork("2")
    for who in ("main", "1", "2"):
        assert service.samples(who) == {"late_total": 1}
    assert "# HELP late_total Made late\n" in service.run("generate_latest(REGISTRY).decode()", "2")


def test_metrics_of_other_registries_stay_there(start_service: StartService) -> None:
    service = start_service("own = CollectorRegistry(); jobs = Counter('jobs', 'j', registry=own)")
    service.fork("1", "jobs.inc()")
    assert service.samples() == {}
    assert service.run("own.get_sample_value('jobs_total')") == 1


def test_what_dead_processes_have_counted_stays_once(start_service: StartService) -> None:
    service = start_service(MAKE)
    for nth in range(5):
        service.fork(f"a{nth}", "hits.labels('a').inc()")
        service.fork(f"b{nth}", "hits.labels('a').inc(); took.observe(1)")
        service.kill(f"a{nth}")
        assert service.samples()['hits_total{path="a"}'] == 2 * nth + 2
        service.kill(f"b{nth}")
    assert service.samples()["took_count"] == 5


def test_a_child_of_a_worker_counts_in_a_row_of_its_own(start_service: StartService) -> None:
    service = start_service("import os\n" + MAKE)
    service.fork("1", "hits.labels('a').inc()")
    child = "hits.labels('a').inc(); os._exit(0)"
    service.run(f"if (pid := os.fork()) == 0:\n    {child}\nos.waitpid(pid, 0)", "1")
    service.run("hits.labels('a').inc()", "1")
    assert service.samples() == {'hits_total{path="a"}': 3} | {
        key: value for key, value in service.samples().items() if not key.startswith("hits")
    }


def test_a_fork_that_python_does_not_see_is_noticed(start_service: StartService) -> None:
    service = start_service("import ctypes, os\n" + MAKE)
    service.run("hits.labels('a').inc()")
    service.run(
        "if (pid := ctypes.PyDLL(None).fork()) == 0:\n    hits.labels('a').inc(5)\n    os._exit(0)\nos.waitpid(pid, 0)"
    )
    service.run("hits.labels('a').inc()")
    assert service.samples()['hits_total{path="a"}'] == 7


POOL = f"""
{SHARE}
{LIBRARY}
import multiprocessing, sys, json
from concurrent.futures import ProcessPoolExecutor

jobs = Counter("jobs", "j", ["kind"])


def work(kind):
    jobs.labels(kind).inc()


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    for _ in range(2):
        with context.Pool(3) as pool:
            pool.map(work, ["pool"] * 20, chunksize=1)
        with ProcessPoolExecutor(3, context) as executor:
            list(executor.map(work, ["executor"] * 20))
    process = context.Process(target=work, args=["process"])
    process.start()
    process.join()
    kinds = ("pool", "executor", "process")
    print(json.dumps([REGISTRY.get_sample_value("jobs_total", {{"kind": kind}}) for kind in kinds]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_that_the_application_starts_count(tmp_path: Path, method: str) -> None:
    (tmp_path / "app.py").write_text(POOL)
    command = [sys.executable, "app.py", method]
    env = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [40, 40, 1]
    assert done.stderr == ""


THREADS = """
import threading
from fractions import Fraction


def in_threads(count, work, times):
    threads = [threading.Thread(target=lambda: [work() for _ in range(times)]) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_no_count_of_a_thread_is_lost(start_service: StartService) -> None:
    service = start_service(THREADS + MAKE + "import sys; sys.setswitchinterval(1e-6)")
    service.fork("1", "in_threads(8, lambda: hits.labels('a').inc(Fraction(1)), 5000)")
    service.run("in_threads(8, lambda: took.observe(0.5), 2000)", "1")
    found = service.samples()
    assert (found['hits_total{path="a"}'], found["took_count"], found["took_sum"]) == (40000, 16000, 8000)


def test_a_metric_that_is_made_by_many_threads_at_once_has_one_series(start_service: StartService) -> None:
    service = start_service(THREADS + MAKE)
    service.fork("1", "in_threads(8, lambda: hits.labels('a').inc(), 1)")
    service.fork("2", "in_threads(8, lambda: [hits.labels(str(each)).inc() for each in range(50)], 1)")
    found = service.samples()
    assert found['hits_total{path="a"}'] == 8
    assert [found[f'hits_total{{path="{each}"}}'] for each in range(50)] == [8] * 50


def test_series_that_all_processes_have_removed_are_gone_and_begin_anew(start_service: StartService) -> None:
    service = start_service(MAKE)
    for who in ("1", "2"):
        service.fork(who, "hits.labels('a').inc(5); hits.labels('b').inc()")
    service.run("hits.remove('a')", "1")
    assert service.samples() == {**service.samples(), 'hits_total{path="a"}': 10, 'hits_total{path="b"}': 2}
    service.run("hits.clear()", "2")
    assert 'hits_total{path="a"}' not in service.samples()
    assert service.samples()['hits_total{path="b"}'] == 2
    service.run("hits.labels('a').inc()", "2")
    assert service.samples()['hits_total{path="a"}'] == 1
    service.run("hits.labels('a').inc()", "1")
    assert service.samples()['hits_total{path="a"}'] == 2


def test_a_series_that_another_process_still_has_goes_on_where_it_was(start_service: StartService) -> None:
    service = start_service(MAKE)
    for who in ("1", "2"):
        service.fork(who, "hits.labels('a').inc(5)")
    service.run("hits.remove('a'); hits.labels('a').inc()", "1")
    assert service.samples()['hits_total{path="a"}'] == 11


def test_a_removed_gauge_is_gone_with_its_process_alone(start_service: StartService) -> None:
    service = start_service(
        "\n".join(f"{mode} = Gauge('{mode}', 'g', ['a'], multiprocess_mode='{mode}')" for mode in ("all", "sum", "max"))
    )
    for who in ("1", "2"):
        service.fork(who, f"[each.labels('x').set({who}) for each in (all, sum, max)]")
    service.run("all.remove('x'); sum.clear(); max.remove_by_labels({'a': 'x'})", "2")
    assert service.samples() == {'all{a="x",worker="1"}': 1, 'sum{a="x"}': 1, 'max{a="x"}': 1}


@pytest.mark.parametrize("remove", ["hits.remove('a')", "hits.clear()", "hits.remove_by_labels({'path': 'a'})"])
def test_a_removed_series_is_gone_though_the_application_has_its_child(
    start_service: StartService, remove: str
) -> None:
    service = start_service(MAKE)
    service.fork("1", f"kept = hits.labels('a'); kept.inc(5); {remove}; kept.inc(5)")
    assert 'hits_total{path="a"}' not in service.samples()
    service.run("hits.labels('a').inc(); kept.inc(5); del kept", "1")
    assert service.samples()['hits_total{path="a"}'] == 1


def test_a_gauge_that_is_removed_while_the_application_has_it_stays_so_in_children(start_service: StartService) -> None:
    service = start_service("depth = Gauge('depth', 'd', ['a'], multiprocess_mode='sum')")
    service.run("kept = depth.labels('x'); kept.set(5); depth.remove('x')")
    service.fork("1", "kept.set(7)")
    assert service.samples() == {}


def test_a_label_value_is_shown_as_its_text_even_if_it_equals_another(start_service: StartService) -> None:
    service = start_service("import enum\nclass Path(str, enum.Enum): A = 'a'\nhits = Counter('hits', 'h', ['path'])")
    service.run("hits.labels('a').inc(); hits.labels(Path.A).inc(2); hits.labels(path='a').inc(4)")
    service.run("hits.labels('1').inc(); hits.labels(1).inc(2); hits.labels(True).inc(4)")
    assert service.samples() == {
        'hits_total{path="a"}': 5,
        'hits_total{path="Path.A"}': 2,
        'hits_total{path="1"}': 3,
        'hits_total{path="True"}': 4,
    }


@pytest.mark.parametrize(
    "call",
    [
        "hits.labels()",
        "hits.labels('a', 'b')",
        "hits.labels('a', path='a')",
        "hits.labels('a').labels('a')",
        "plain.labels('a')",
    ],
)
def test_wrong_labels_are_refused_as_the_library_refuses_them(start_service: StartService, call: str) -> None:
    attempt = f"try:\n    {call}\nexcept ValueError as error:\n    message = str(error)"
    make = f"{MAKE}\nhits.labels('a')\nplain = Counter('plain', 'p')\n{attempt}"
    alone = start_service(prelude=f"{LIBRARY}\n{make}")
    assert start_service(make).run("message") == alone.run("message")


def test_a_counter_that_is_reset_loses_what_its_process_has_counted(start_service: StartService) -> None:
    service = start_service(MAKE)
    service.fork("1", "hits.labels('a').inc(5)")
    service.fork("2", "hits.labels('a').inc(3); hits.labels('a').reset()")
    assert service.samples()['hits_total{path="a"}'] == 5


INFO = "build = Info('build', 'b', ['app'])"


def test_each_set_of_an_infos_labels_is_there_once(start_service: StartService) -> None:
    service = start_service(INFO)
    for who, version in (("1", "1.0"), ("2", "1.0"), ("3", "1.1")):
        service.fork(who, f"build.labels('shop').info({{'version': '{version}'}})")
    assert service.samples() == {
        'build_info{app="shop",version="1.0"}': 1,
        'build_info{app="shop",version="1.1"}': 1,
    }
    service.run("build.labels('shop').info({'version': '1.2', 'commit': 'abc'})", "3")
    assert service.samples("1") == {
        'build_info{app="shop",version="1.0"}': 1,
        'build_info{app="shop",commit="abc",version="1.2"}': 1,
    }


def test_an_info_that_threads_set_at_once_stays(start_service: StartService) -> None:
    service = start_service(f"import sys; sys.setswitchinterval(1e-6); {INFO}")
    service.run("from concurrent.futures import ThreadPoolExecutor; pool = ThreadPoolExecutor(4)")
    service.fork("1")
    for nth in range(50):
        service.run(f"list(pool.map(build.labels('x').info, [dict(version='{nth}')] * 8))")
        assert service.samples("1") == {f'build_info{{app="x",version="{nth}"}}': 1}


def test_values_of_an_info_are_shown_as_their_texts(start_service: StartService) -> None:
    service = start_service(INFO)
    service.run("import decimal; build.labels('x').info({'version': decimal.Decimal('1.5')})")
    assert service.samples("main") == {'build_info{app="x",version="1.5"}': 1}


def test_an_enum_has_the_state_of_each_process(start_service: StartService) -> None:
    service = start_service("state = Enum('state', 's', states=['starting', 'running'])")
    assert service.samples() == {'state{state="starting"}': 1, 'state{state="running"}': 0}
    service.fork("1", "state.state('running')")
    assert service.samples() == {
        'state{state="starting",worker="main"}': 1,
        'state{state="running",worker="main"}': 0,
        'state{state="starting",worker="1"}': 0,
        'state{state="running",worker="1"}': 1,
    }


EARLY = """
early = Counter("early", "e", ["a"])
early.labels("x").inc(3, exemplar={"trace": "7"})
plain = Counter("plain", "p"); plain.inc()
depth = Gauge("depth", "d", multiprocess_mode="max"); depth.set(4)
took = Histogram("took", "t", buckets=[1]); took.observe(0.5); took.observe(2)
size = Summary("size", "s"); size.observe(2)
seven = Gauge("seven", "s"); seven.set_function(lambda: 7)
build = Info("build", "b"); build.info({"version": "1"})
state = Enum("state", "s", states=["off", "on"]); state.state("on")
"""


def test_metrics_that_were_made_before_are_taken_over(start_service: StartService) -> None:
    service = start_service(
        prelude=f"{LIBRARY}\n{EARLY}\ncreated = REGISTRY.get_sample_value('plain_created')\n{SHARE}"
    )
    service.fork("1", "early.labels('x').inc(); early.labels('y').inc(); plain.inc(); depth.set(9)")
    assert (
        service.samples()
        == service.samples("1")
        == {
            'early_total{a="x"}': 4,
            'early_total{a="y"}': 1,
            "plain_total": 2,
            "depth": 9,
            'took_bucket{le="1.0"}': 1,
            'took_bucket{le="+Inf"}': 2,
            "took_count": 2,
            "took_sum": 2.5,
            "size_count": 1,
            "size_sum": 2,
            "seven": 7,
            'build_info{version="1"}': 1,
            'state{state="off",worker="main"}': 0,
            'state{state="on",worker="main"}': 1,
        }
    )
    assert 'trace="7"' in service.run(
        "__import__('prometheus_client.openmetrics.exposition').openmetrics.exposition.generate_latest(REGISTRY).decode()"
    )


def test_what_is_left_of_a_metric_that_could_not_be_made_is_no_obstacle(start_service: StartService) -> None:
    bad = "try:\n    Counter('bad', 'b', ['__bad'])\nexcept ValueError as error:\n    kept = error"
    service = start_service(prelude=f"{LIBRARY}\n{bad}\nhits = Counter('hits', 'h')\nhits.inc()\n{SHARE}")
    service.fork("1", "hits.inc()")
    assert service.samples() == {"hits_total": 2}


def test_a_subclass_may_describe_nothing(start_service: StartService) -> None:
    service = start_service("class Own(Counter):\n    def describe(self): return []\nhits = Own('hits', 'h')")
    service.fork("1", "hits.inc()")
    assert service.samples() == {"hits_total": 1}


def test_a_metric_that_can_not_be_taken_over_is_named(start_service: StartService) -> None:
    odd = "class Odd:\n    def get_exemplar(self): pass\nodd = Counter('odd', 'o'); odd._value = Odd()"
    service = start_service(prelude=f"{LIBRARY}\n{odd}")
    code = f"try:\n    {SHARE}\nexcept TypeError as error:\n    message = str(error)"
    service.run(code)
    assert service.run("message") == "can't share the metric 'odd': its values are Odd"


def test_a_second_call_changes_nothing(start_service: StartService) -> None:
    service = start_service(MAKE + "hits.labels('a').inc()\n" + SHARE)
    service.fork("1", f"{SHARE}; hits.labels('a').inc()")
    assert service.samples("1")['hits_total{path="a"}'] == 2


def test_created_series_are_those_of_the_first_process_or_not_there(start_service: StartService) -> None:
    service = start_service(MAKE)
    code = "REGISTRY.get_sample_value('hits_created', {'path': 'a'})"
    service.fork("1", "hits.labels('a').inc()")
    first = service.run(code)
    service.fork("2", "hits.labels('a').inc()")
    assert service.run(code, "2") == service.run(code, "1") == first > 1e9
    service.run("disable_created_metrics()")
    assert service.run(code) is None


def test_exemplars_of_the_answering_process_stay_with_their_samples(start_service: StartService) -> None:
    service = start_service(MAKE + "from prometheus_client.openmetrics.exposition import generate_latest")
    service.fork("1", "hits.labels('a').inc(2, exemplar={'trace': '7'}); took.observe(1.5, {'trace': '8'})")
    service.fork("2", "hits.labels('a').inc()")
    lines = service.run("generate_latest(REGISTRY).decode()", "1")
    assert 'hits_total{path="a"} 3.0 # {trace="7"} 2.0' in lines
    assert 'took_bucket{le="2.0"} 1.0 # {trace="8"} 1.5' in lines


def test_two_thousand_workers_one_after_another_take_the_memory_of_the_first(start_service: StartService) -> None:
    service = start_service(MAKE + WORKERS)
    service.run("workers(20)")
    before = service.run("footprint()")
    service.run("workers(1980)")
    found = service.samples()
    assert (found['hits_total{path="a"}'], found["took_count"], found["size_sum"]) == (2000, 2000, 4000)
    assert service.run("footprint()") == before


# What is in use: blocks of shared memory, rows, cells that a scrape reads.
WORKERS = """
import os
from pathlib import Path
from stator.instrumentation.layout import HEAD, OWNERS, USED


def workers(count):
    for _ in range(count):
        if (pid := os.fork()) == 0:
            hits.labels("a").inc(); took.observe(1); size.observe(2)
            os._exit(0)
        os.waitpid(pid, 0)


def footprint():
    memory = hits.labels("a")._value._memory
    cells = [len(each.cells) for family in memory.reader.families(memory.row) for each in family.series.values()]
    fd = next(path for path in Path("/proc/self/fd").iterdir() if "memfd:stator-metrics" in os.readlink(path))
    return [fd.stat().st_blocks, sum(memory.heads[USED::HEAD]), sum(cells)]
"""


def test_a_stator_shares_metrics_that_are_there_already(start_service: StartService) -> None:
    prelude = f"{LIBRARY}\nhits = Counter('hits', 'h')\nhits.inc()\nimport stator; stator.Stator(share_metrics=True)"
    service = start_service(prelude=prelude)
    service.fork("1", "hits.inc(2)")
    assert service.samples()["hits_total"] == service.samples("1")["hits_total"] == 3


def test_an_applications_metrics_and_those_of_its_requests_have_cells_of_their_own(start_service: StartService) -> None:
    service = start_service(prelude="")
    service.fork("1", f"{SHARE}\n{LIBRARY}\n{MAKE}{REQUESTS}")
    service.run("hits.labels('a').inc(2)", "1")
    service.run("for _ in range(3): ask()", "1")
    service.run("took.observe(1.5)", "1")
    samples = service.samples("1")
    assert (samples['hits_total{path="a"}'], samples["took_sum"]) == (2, 1.5)
    assert list(counts(service.run("metrics()", "1")).values()) == [3]


DESTRUCTORS = """
import gc

ended = Counter("ended", "Jobs that ended", ["job"])


class Job:
    def __init__(self, number):
        self.itself, self.number = self, number

    def __del__(self):
        ended.labels(str(self.number)).inc()


def work():
    gc.set_threshold(7)
    for number in range(300):
        Job(number)
        hits.labels(str(number)).inc()
    gc.collect()
    gc.set_threshold(700)
"""


def test_destructors_count_while_another_series_is_made(start_service: StartService) -> None:
    service = start_service(f"{MAKE}{DESTRUCTORS}")
    service.run("work()")
    samples = service.samples()
    for name in ("hits_total", "ended_total"):
        assert sum(value for series, value in samples.items() if series.startswith(name)) == 300
