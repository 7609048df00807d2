"""What can't be shared stays with its process, with one line in the log, and the application goes on."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.instrumentation.conftest import StartService
from tests.instrumentation.processes import LIBRARY, SHARE
from tests.program import ROOT, eventually

LIMITED = f"""
import json, resource
{{limit}}
{SHARE}
{LIBRARY}
hits = Counter("hits", "h")
hits.inc(2)
print(json.dumps(REGISTRY.get_sample_value("hits_total")))
"""


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))", "File too large"),
        ("resource.setrlimit(resource.RLIMIT_AS, (150 << 20, 150 << 20))", "Cannot allocate memory"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))", "Too many open files"),
    ],
)
def test_without_memory_metrics_are_those_of_the_process(limit: str, reason: str) -> None:
    code = f"import stator.instrumentation.library, stator.instrumentation.finding\n{LIMITED.format(limit=limit)}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("metrics of this process are not shared: ")
    assert line.endswith(reason)


def test_a_folder_of_the_librarys_own_multiprocess_mode_is_left_alone(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    code = f"{SHARE}\n{LIBRARY}\nCounter('hits', 'h').inc()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert (
        done.stderr == f"metrics stay in the files of prometheus_client: PROMETHEUS_MULTIPROC_DIR='{tmp_path}' is set\n"
    )
    assert len(list(tmp_path.glob("*.db"))) == 1


def test_the_process_after_the_last_row_counts_for_itself(start_service: StartService) -> None:
    service = start_service("hits = Counter('hits', 'h', ['a']); hits.labels('x').inc()")
    for nth in range(64):
        service.fork(str(nth), f"hits.labels('x').inc(); hits.labels('own {nth}').inc()")
    assert service.samples()['hits_total{a="x"}'] == 64
    assert service.log == "metrics of this process are not shared: 63 processes share metrics already\n"
    assert service.samples("63").keys() - service.samples().keys() == {'hits_total{a="own 63"}'}
    service.kill("5")
    service.fork("next", "hits.labels('x').inc()")
    assert service.samples()['hits_total{a="x"}'] == 65


def test_a_row_that_is_full_leaves_its_other_series_to_the_process(start_service: StartService) -> None:
    service = start_service(
        "from stator.instrumentation import memory\nmemory.ROW_CELLS = 8\nhits = Counter('hits', 'h', ['a'])"
    )
    service.fork("1", "[hits.labels(str(nth)).inc(2) for nth in range(6)]")
    assert service.samples() == {f'hits_total{{a="{nth}"}}': 2 for nth in range(4)}
    assert service.samples("1") == {f'hits_total{{a="{nth}"}}': 2 for nth in range(6)}
    assert service.log == "some metrics of this process are not shared: this process has 4 series already\n"


# The descriptor of the shared memory.
DESCRIPTOR = """
import os
from pathlib import Path

memory = next(path for path in Path("/proc/self/fd").iterdir() if "memfd:stator-metrics" in os.readlink(path))
"""


def test_an_application_that_takes_the_descriptor_for_another_file_goes_on(start_service: StartService) -> None:
    service = start_service("hits = Counter('hits', 'h', ['a']); hits.labels('x').inc()" + DESCRIPTOR)
    service.run("os.dup2(os.open('/dev/null', os.O_RDWR), int(memory.name))")
    service.run("hits.labels('x').inc(); hits.labels('y').inc()")
    assert service.samples() == {'hits_total{a="x"}': 2, 'hits_total{a="y"}': 1}
    reason = "the descriptor of the shared memory was closed"
    assert service.log == f"some metrics of this process are not shared: {reason}\n"


# A handler as many applications have one, which holds its lock as it counts.
COUNTS_LINES = """
import logging, threading, time

lines = Counter("lines", "l", ["level"])


class Counting(logging.Handler):
    def emit(self, record):
        time.sleep(0.1)
        lines.labels(record.levelname).inc()


logging.getLogger().addHandler(Counting())
"""


def test_a_warning_waits_for_no_handler_that_counts(start_service: StartService) -> None:
    service = start_service(DESCRIPTOR + COUNTS_LINES)
    service.fork("1", "os.close(int(memory.name))")
    service.run("thread = threading.Thread(target=logging.error, args=('x',), daemon=True); thread.start()", "1")
    service.run("lines.labels('other').inc()", "1")
    service.run("thread.join(10)", "1")
    assert not service.run("thread.is_alive()", "1")
    counted = {f'lines_total{{level="{level}"}}': 1 for level in ("ERROR", "WARNING", "other")}
    assert eventually(lambda: service.samples("1") == counted)


WORKER = f"""
import os
def worker():
    {SHARE}
    {LIBRARY.replace("*", "Counter")}
    Counter("hits", "h").inc()
"""


def test_processes_of_another_version_share_among_themselves(start_service: StartService) -> None:
    service = start_service(prelude=WORKER)
    other = "from stator.instrumentation import finding\nfinding.NAME = 'stator-metrics-0'"
    for who, before in (("1", ""), ("2", other), ("3", ""), ("4", other)):
        service.fork(who, f"{before}\nworker()\n{LIBRARY}")
    assert [service.samples(who)["hits_total"] for who in "1234"] == [2, 2, 2, 2]
    assert service.log == (
        "metrics are not shared with processes of another version of Stator: they have stator-metrics-2\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_after_a_change_of_user_a_process_counts_for_itself(start_service: StartService) -> None:
    service = start_service(prelude=WORKER)
    service.fork("1", f"worker()\n{LIBRARY}")
    # Before, since not every user may read them.
    modules = "library", "finding", "sharing"
    imports = f"import multiprocessing.process, {', '.join(f'stator.instrumentation.{name}' for name in modules)}"
    service.fork("2", f"{imports}\nos.setuid(65534)\nworker()\n{LIBRARY}")
    assert (service.samples("1")["hits_total"], service.samples("2")["hits_total"]) == (1, 1)
    assert service.log.startswith(
        "metrics of this process are not shared: can't inspect sibling workers after a change of user"
    )
    assert service.log.count("\n") == 1


def test_two_services_on_one_host_stay_apart(start_service: StartService) -> None:
    first, second = start_service(prelude=WORKER), start_service(prelude=WORKER)
    for service, count in ((first, 1), (second, 3)):
        for nth in range(count):
            service.fork(str(nth), f"worker()\n{LIBRARY}")
    assert (first.samples("0")["hits_total"], second.samples("0")["hits_total"]) == (1, 3)


def test_what_workers_have_counted_outlives_them_all(start_service: StartService) -> None:
    service = start_service(prelude=WORKER)
    for nth in range(3):
        service.fork(str(nth), f"worker()\n{LIBRARY}")
        assert service.samples(str(nth))["hits_total"] == nth + 1
        service.kill(str(nth))


def keepers(server: int) -> list[psutil.Process]:
    """The processes that keep the memory of a server."""
    return [
        each
        for each in psutil.process_iter(["cmdline"])
        if "-c" in (arguments := each.info["cmdline"] or []) and arguments[-2:-1] == [str(server)]
    ]


def test_a_keeper_of_the_memory_that_was_killed_has_a_successor_once_a_worker_starts(
    start_service: StartService,
) -> None:
    service = start_service(prelude=WORKER)
    service.fork("0", f"worker()\n{LIBRARY}")
    (keeper,) = keepers(service.pid)
    keeper.kill()
    eventually(lambda: not keepers(service.pid))
    service.fork("1", f"worker()\n{LIBRARY}")
    service.kill("0")
    service.kill("1")
    service.fork("2", f"worker()\n{LIBRARY}")
    assert service.samples("2")["hits_total"] == 3


def test_only_what_is_written_takes_memory(start_service: StartService) -> None:
    service = start_service("hits = Counter('hits', 'h'); hits.inc()" + DESCRIPTOR)
    assert service.run("memory.stat().st_blocks * 512") == 3 * resource.getpagesize()
