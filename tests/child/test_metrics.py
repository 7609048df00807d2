"""What is exposed of a wrapped program, against what the kernel told the program itself."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stator.child.metrics import oom_kills
from tests.program import Program, eventually

# Burns CPU in itself, in a child that it reaps, in a grandchild that ends before its parent, and in one that is left to
# whoever reaps orphans; then writes how much it was.
BURNS = """
import os, sys, time

def burn(seconds):
    while time.process_time() < seconds: pass

def child(function):
    pid = os.fork()
    if pid == 0:
        function()
        os._exit(0)
    return pid

def orphan():
    child(lambda: burn(0.5))
    os._exit(0)

burn(0.5)
os.waitpid(child(lambda: burn(0.5)), 0)
os.waitpid(child(lambda: (os.waitpid(child(lambda: burn(0.5)), 0), burn(0.5))), 0)
os.waitpid(child(orphan), 0)
data = b"x" * (4 << 20)
with open("data", "wb", buffering=0) as file:
    file.write(data)
    os.fsync(file.fileno())
print(sum(os.times()[:4]), flush=True)
time.sleep(600)
"""


def exposed(program: Program) -> dict[str, float]:
    families = text_string_to_metric_families(program.get("/metrics?collect[]=child").body.decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_the_cpu_time_of_all_its_processes_is_exposed_also_of_those_that_ended(tmp_path: Path) -> None:
    with Program({}, tmp_path, args=("--", sys.executable, "-c", BURNS)) as program:
        eventually(lambda: program.output.endswith("\n"), within=60)
        # The orphan burns half a second more, which the program itself does not know of.
        expected = float(program.output) + 0.5
        eventually(lambda: exposed(program)["stator_child_processes"] == 1, within=30)
        found = exposed(program)
        assert found["process_cpu_seconds_total"] == pytest.approx(expected, rel=0.02, abs=0.03)
        assert found["stator_child_written_bytes_total"] >= 4 << 20
        assert found["stator_child_involuntary_context_switches_total"] > 0
        assert program.stop() == 143


def test_memory_files_and_threads_are_those_of_the_tree(tmp_path: Path) -> None:
    script = "import subprocess, sys, time; data = b'x' * (64 << 20); subprocess.run(['sleep', '600'])"
    with Program({}, tmp_path, args=("--", sys.executable, "-c", script)) as program:
        child = psutil.Process(int(program.wait_for("program started")["pid"]))
        eventually(child.children)
        tree = [child, *child.children(recursive=True)]
        found = exposed(program)
        assert found["process_resident_memory_bytes"] == pytest.approx(
            sum(each.memory_info().rss for each in tree), rel=0.02
        )
        assert found["process_virtual_memory_bytes"] == sum(each.memory_info().vms for each in tree)
        assert found["process_open_fds"] == sum(each.num_fds() for each in tree)
        assert found["stator_child_threads"] == sum(each.num_threads() for each in tree)
        assert found["stator_child_processes"] == len(tree) == 2
        assert found["stator_child_start_time_seconds"] == pytest.approx(child.create_time(), abs=0.1)
        text = program.get("/metrics").body.decode()
        assert f'stator_child_info{{pid="{child.pid}",command="{sys.executable}"}} 1' in text
        assert text.count("# TYPE process_cpu_seconds") == 1
        assert program.stop() == 143


def test_no_counter_falls_while_processes_come_and_go(tmp_path: Path) -> None:
    script = "while :; do (i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done) & wait; done"
    with Program({}, tmp_path, args=("--", "bash", "-c", script)) as program:
        program.wait_for("program started")
        before: dict[str, float] = {}
        for _ in range(100):
            now = {name: value for name, value in exposed(program).items() if name.endswith("_total")}
            assert all(now[name] >= value for name, value in before.items()), (before, now)
            before = now
        assert before["process_cpu_seconds_total"] > 0
        assert program.stop() == 143


def test_the_program_is_exposed_in_place_of_ourselves(tmp_path: Path) -> None:
    env = {"STTR_COLLECTORS": "process,runtime"}
    with Program(env, tmp_path, args=("--", "sleep", "600")) as program:
        child = psutil.Process(int(program.wait_for("program started")["pid"]))
        text = program.get("/metrics").body.decode()
        assert 'stator_collector_success{collector="child"} 1' in text
        assert 'collector="process"' not in text
        assert f"process_open_fds {child.num_fds()} " in text
        os.kill(child.pid, signal.SIGTERM)
        assert program.ended() == 143


def test_the_kernels_count_of_kills_for_want_of_memory_is_read_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert oom_kills(os.getpid()) in (None, 0)
    (*_, path) = Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)
    for folder, name in ((tmp_path, "memory.events"), (tmp_path / "memory", "memory.oom_control")):
        (folder / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        (folder / path.lstrip("/") / name).write_text("oom 3\noom_kill 2\n")
    monkeypatch.setattr("stator.child.metrics.CGROUPS", tmp_path)
    assert oom_kills(os.getpid()) == 2
    assert oom_kills(2**22) is None
