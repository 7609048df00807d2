"""The processes of a service see each other, and none that is gone."""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest

from stator.processes.procfs import Stat
from stator.processes.service import Process, ServiceProcesses
from tests.program import eventually


class Forked:
    """Children that register, act, and then wait for their end."""

    def __init__(self, processes: ServiceProcesses) -> None:
        self._processes = processes
        self._children: list[int] = []

    def start(self, number: int, act: Callable[[], object] = lambda: None, *, registers: bool = True) -> int:
        """Forks a child, and returns its id once it has registered and acted."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if registers:
                    self._processes.register("worker", number)
                act()
                os.write(writer, b"done")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as done:
            assert done.read(4) == b"done"
        self._children.append(pid)
        return pid

    def kill(self, pid: int, *, wait: bool = True) -> None:
        os.kill(pid, signal.SIGKILL)
        if wait:
            self.wait(pid)

    def wait(self, pid: int) -> None:
        os.waitpid(pid, 0)
        self._children.remove(pid)

    def end(self) -> None:
        for pid in list(self._children):
            self.kill(pid)


@pytest.fixture
def processes() -> Iterator[ServiceProcesses]:
    before = list(gc.callbacks)
    processes = ServiceProcesses(2)
    processes.register("main")
    yield processes
    gc.callbacks[:] = before


@pytest.fixture
def forked(processes: ServiceProcesses) -> Iterator[Forked]:
    forked = Forked(processes)
    yield forked
    forked.end()


def by_worker(processes: ServiceProcesses) -> dict[int, Process]:
    return {each.worker: each for each in processes.snapshot()}


def test_each_sees_all(processes: ServiceProcesses, forked: Forked) -> None:
    pids = {0: os.getpid(), 1: forked.start(1), 2: forked.start(2)}
    assert {number: each.pid for number, each in by_worker(processes).items()} == pids
    assert {each.role for each in processes.snapshot()} == {"main", "worker"}


def test_a_process_sees_the_garbage_collections_of_another(processes: ServiceProcesses, forked: Forked) -> None:
    forked.start(1, lambda: [gc.collect() for _ in range(7)])
    generations = by_worker(processes)[1].generations
    assert generations[2].collections == 7
    assert generations[2].seconds > 0


def test_a_child_counts_from_zero(processes: ServiceProcesses, forked: Forked) -> None:
    gc.collect()
    forked.start(1)
    assert by_worker(processes)[0].generations[2].collections > 0
    assert by_worker(processes)[1].generations[2].collections == 0


def test_a_killed_process_is_gone_once_it_is_reaped(processes: ServiceProcesses, forked: Forked) -> None:
    pid = forked.start(1)
    forked.kill(pid, wait=False)
    eventually(lambda: not by_worker(processes)[1].stat.is_alive)
    forked.wait(pid)
    assert set(by_worker(processes)) == {0}
    replacement = forked.start(1)
    assert by_worker(processes)[1].pid == replacement


def test_the_cpu_time_of_reaped_processes_stays_in_the_sum(processes: ServiceProcesses, forked: Forked) -> None:
    def cpu() -> int:
        return sum(each.stat.user + each.stat.system + each.stat.reaped for each in processes.stable_snapshot())

    pid = forked.start(1, lambda: sum(range(8_000_000)))
    before = cpu()
    assert by_worker(processes)[1].stat.user > 0
    forked.kill(pid)
    assert cpu() >= before


def test_the_numbers_are_those_that_psutil_reads(processes: ServiceProcesses, forked: Forked) -> None:
    pid = forked.start(1)
    seen, known = by_worker(processes)[1], psutil.Process(pid)
    assert seen.stat.virtual == known.memory_info().vms
    # The kernel counts it in two ways.
    assert seen.stat.resident * os.sysconf("SC_PAGE_SIZE") == pytest.approx(known.memory_info().rss, rel=0.1)
    assert (seen.fds, seen.stat.threads) == (known.num_fds(), known.num_threads())
    assert seen.stat.user / os.sysconf("SC_CLK_TCK") == known.cpu_times().user


def test_a_process_that_did_not_register_sees_all_and_itself(processes: ServiceProcesses, forked: Forked) -> None:
    reader, writer = os.pipe()
    forked.start(
        1, lambda: os.write(writer, repr([each.pid for each in processes.snapshot()]).encode()), registers=False
    )
    pids = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert pids.startswith(f"[{os.getpid()}, ")
    assert len(pids.split(",")) == 2


def test_a_single_process_sees_itself() -> None:
    (member,) = ServiceProcesses().snapshot()
    assert (member.pid, member.role, member.worker) == (os.getpid(), "", 0)


def test_workers_beyond_the_rows_are_not_seen(processes: ServiceProcesses, forked: Forked) -> None:
    forked.start(100)
    assert set(by_worker(processes)) == {0}


def test_processes_that_are_gone_leave_no_file_open(processes: ServiceProcesses, forked: Forked) -> None:
    before = psutil.Process().num_fds()
    for _ in range(5):
        pid = forked.start(1)
        processes.snapshot()
        forked.kill(pid)
    processes.register("main")
    forked.start(1)
    processes.snapshot()
    assert psutil.Process().num_fds() <= before + 2


def test_a_process_may_have_any_name() -> None:
    line = b"7 (a) b (c) R 1 " + b" ".join(str(number).encode() for number in range(5, 60))
    assert Stat.parse(line).state == b"R"
    assert (Stat.parse(line).user, Stat.parse(line).reaped) == (14, 16 + 17)


def test_the_heap_is_not_walked_after_young_collections(
    processes: ServiceProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    walks: list[int] = []

    def walk() -> int:
        walks.append(7)
        return 7

    monkeypatch.setattr(sys, "getallocatedblocks", walk)
    gc.collect(0)
    gc.collect(1)
    assert not walks
    gc.collect()
    assert walks
    assert by_worker(processes)[0].blocks == 7
