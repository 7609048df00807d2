"""The series of requests are bounded over all workers that ever lived, and no request goes uncounted."""

import json

import pytest

from tests.instrumentation.conftest import StartService
from tests.instrumentation.processes import Service
from tests.instrumentation.scraping import counts, samples

ROUTE = 2  # place of the route among the labels' values


def requests(most: int = 10, **more: object) -> str:
    """Code of an application whose routes are its paths, and of a client that asks it."""
    environ = json.dumps({"STTR_METRICS_MAXSERIES": str(most)})
    return f"""
import stator
from wsgiref.util import setup_testing_defaults


def answer(environ, start):
    stator.set_route(environ["PATH_INFO"])
    start("200 OK", [])
    return [b""]


app = stator.wsgi_app(answer, environ={environ}, collectors=[], access_log="off", **{more})


def ask(path, method="GET"):
    environ = {{"PATH_INFO": path, "REQUEST_METHOD": method}}
    setup_testing_defaults(environ)
    return b"".join(app(environ, lambda *_: None)).decode()


metrics = lambda: ask("/metrics")
"""


def counted(service: Service, who: str = "main") -> dict[str, int]:
    """How many requests a process reports, by route."""
    found: dict[str, int] = {}
    for (_, route, _, _), number in counts(service.run("metrics()", who)).items():
        found[route] = found.get(route, 0) + number
    return found


def test_many_workers_one_after_another_make_no_more_series_than_one_may(start_service: StartService) -> None:
    service = start_service(prelude=requests(most=10))
    for nth in range(40):
        service.fork(
            "worker", f"for part in range(5): ask(f'/{nth}/{{part}}', method='POST' if part % 2 else 'M{nth}')"
        )
        service.kill("worker")
    found = samples(service.run("metrics()"), "http_server_request_duration_seconds_count")
    known = [labels for labels in found if labels[ROUTE] != "_OTHER"]
    assert (len(known), sum(found.values())) == (10, 200)
    # Beside these, one for each method.
    assert {labels[0] for labels in found if labels[ROUTE] == "_OTHER"} == {"_OTHER", "POST"}
    assert len(found) == 12


def test_workers_at_the_same_time_share_the_limit(start_service: StartService) -> None:
    service = start_service(prelude=requests(most=10))
    for nth in range(4):
        service.fork(str(nth), f"for part in range(5): ask(f'/{nth}/{{part}}')")
    expected = {f"/{nth}/{part}": 1 for nth in range(2) for part in range(5)} | {"_OTHER": 10}
    assert [counted(service, str(nth)) for nth in range(4)] == [expected] * 4


def test_a_route_that_another_worker_has_counts_as_such_at_the_limit(start_service: StartService) -> None:
    service = start_service(prelude=requests(most=2))
    service.fork("1", "ask('/a'); ask('/b'); ask('/c')")
    service.fork("2", "ask('/b'); ask('/d')")
    service.kill("1")
    service.fork("3", "ask('/a'); ask('/d')")
    assert counted(service) == {"/a": 2, "/b": 2, "_OTHER": 3}


def test_sizes_of_bodies_have_the_same_routes(start_service: StartService) -> None:
    service = start_service(prelude=requests(most=2, body_sizes=True))
    for nth in range(4):
        service.fork(str(nth), f"ask('/{nth}')")
    text = service.run("metrics()")
    for name in ("request_duration_seconds", "request_body_size_bytes", "response_body_size_bytes"):
        found = samples(text, f"http_server_{name}_count")
        assert {labels[ROUTE]: value for labels, value in found.items()} == {"/0": 1, "/1": 1, "_OTHER": 2}


FEW_CELLS = "from stator.instrumentation import memory\nmemory.ROW_CELLS = 60\n"


def test_what_finds_no_room_in_the_memory_is_in_the_scrapes_of_its_process_once(start_service: StartService) -> None:
    service = start_service(prelude=FEW_CELLS + requests())
    service.fork("1", "for nth in range(5): ask(f'/{nth}'); ask(f'/{nth}')")
    service.fork("2", "ask('/4'); ask('/0')")
    assert counted(service, "1") == {"/0": 3, "/1": 2, "/2": 2, "/3": 2, "/4": 3}
    assert counted(service, "2") == {"/0": 3, "/1": 2, "/2": 2, "/4": 1}
    assert service.log == "some metrics of this process are not shared: this process has 4 series already\n"


def test_what_the_kernel_refuses_to_keep_is_in_the_scrapes_of_its_process_once(start_service: StartService) -> None:
    service = start_service(prelude=requests(most=4, body_sizes=True))
    service.fork("1", "ask('/a')")
    service.run("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))", "1")
    service.run("for path in '/a', '/b', '/b', '/c', '/d', '/e': ask(path)", "1")
    service.fork("2", "ask('/b')")
    assert counted(service, "1") == {"/a": 2, "/b": 3, "/c": 1, "/d": 1, "_OTHER": 1}
    assert counted(service, "2") == {"/a": 2, "/b": 1}
    assert service.log == "some metrics of this process are not shared: [Errno 27] File too large\n"


def test_a_process_without_a_row_reports_its_own_requests_beside_those_of_all(start_service: StartService) -> None:
    service = start_service(prelude="from stator.instrumentation import memory\nmemory.ROWS = 3\n" + requests(most=3))
    for who in ("1", "2", "3"):
        service.fork(who, f"ask('/shared'); ask('/{who}')")
    assert counted(service, "1") == {"/shared": 2, "/1": 1, "/2": 1}
    assert counted(service, "3") == {"/shared": 3, "/1": 1, "/2": 1, "_OTHER": 1}
    active = samples(service.run("metrics()", "3"), "http_server_active_requests")
    assert set(active.values()) == {0}
    assert service.log == "metrics of this process are not shared: 2 processes share metrics already\n"
    # A child of it may have a row, and begins with nothing of its own.
    service.kill("1")
    service.run("import os\nif (pid := os.fork()) == 0:\n    ask('/shared'); os._exit(0)\n_ = os.waitpid(pid, 0)", "3")
    assert counted(service, "2") == {"/shared": 3, "/1": 1, "/2": 1}


THREADS = """
import sys, threading

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=lambda: [ask(f"/{nth % 30}") for nth in range(600)]) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_lose_no_request_and_keep_to_the_limit(start_service: StartService) -> None:
    service = start_service(prelude=requests(most=20))
    service.fork("1", THREADS)
    found = counted(service)
    assert (len(found), sum(found.values()), found["_OTHER"]) == (21, 4800, 1600)


def test_workers_with_other_bounds_add_to_the_same_histogram(start_service: StartService) -> None:
    service = start_service(prelude="")
    for who, bounds in (("1", "100,200"), ("2", "50,200,300")):
        service.fork(
            who, requests().replace('"STTR_METRICS_MAX', f'"STTR_METRICS_BUCKETS": "{bounds}", "STTR_METRICS_MAX')
        )
        service.run("ask('/a')", who)
    text = service.run("metrics()", "2")
    buckets = samples(text, "http_server_request_duration_seconds_bucket")
    assert [(labels[-1], value) for labels, value in buckets.items()] == [
        *(("50.0", 1), ("100.0", 2), ("200.0", 2), ("300.0", 2), ("+Inf", 2)),
    ]


@pytest.mark.parametrize("own", ["/a", "/b"])
def test_a_process_that_lost_the_descriptor_counts_on(start_service: StartService, own: str) -> None:
    service = start_service(prelude=requests())
    find = "next(fd for fd in os.listdir('/proc/self/fd') if 'stator-metrics' in os.readlink(f'/proc/self/fd/{fd}'))"
    service.run("ask('/a')\nimport os\nmetrics()")
    service.run(f"os.dup2(os.open('/dev/null', os.O_RDWR), int({find}))\nask({own!r})")
    assert counted(service) == ({"/a": 2} if own == "/a" else {"/a": 1, "/b": 1})
