"""The processes of a service see each other, and none that is gone."""

import gc
import os
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from stator.processes.procfs import Stat
from stator.processes.service import Process, ServiceProcesses
from tests.program import eventually


class Forked:
    """Children that enter, and do what they are told until they are ended."""

    def __init__(self, processes: ServiceProcesses) -> None:
        self._processes = processes
        self._children: list[int] = []

    def start(self, number: int, act: Callable[[], object] = lambda: None, *, enters: bool = True) -> int:
        """A child's id, once it has entered and acted."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if enters:
                    self._processes.enter("worker", number)
                act()
                os.write(writer, b"done")
                signal.pause()
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert told.read(4) == b"done"
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
    made = ServiceProcesses(2)
    made.enter("main")
    yield made
    gc.callbacks[:] = before


@pytest.fixture
def forked(processes: ServiceProcesses) -> Iterator[Forked]:
    made = Forked(processes)
    yield made
    made.end()


def by_worker(processes: ServiceProcesses) -> dict[int, Process]:
    return {each.worker: each for each in processes.members()}


def test_each_sees_all(processes: ServiceProcesses, forked: Forked) -> None:
    pids = {0: os.getpid(), 1: forked.start(1), 2: forked.start(2)}
    assert {number: each.pid for number, each in by_worker(processes).items()} == pids
    assert {each.role for each in processes.members()} == {"main", "worker"}


def test_what_one_does_is_seen_by_another(processes: ServiceProcesses, forked: Forked) -> None:
    forked.start(1, lambda: [gc.collect() for _ in range(7)])
    generations = by_worker(processes)[1].generations
    assert generations[2].collections == 7
    assert generations[2].seconds > 0


def test_a_child_begins_to_count_anew(processes: ServiceProcesses, forked: Forked) -> None:
    gc.collect()
    forked.start(1)
    assert by_worker(processes)[0].generations[2].collections > 0
    assert by_worker(processes)[1].generations[2].collections == 0


def test_one_that_is_killed_is_gone_once_it_was_waited_for(processes: ServiceProcesses, forked: Forked) -> None:
    pid = forked.start(1)
    forked.kill(pid, wait=False)
    eventually(lambda: not by_worker(processes)[1].stat.is_alive)
    forked.wait(pid)
    assert set(by_worker(processes)) == {0}
    replacement = forked.start(1)
    assert by_worker(processes)[1].pid == replacement


def test_the_cpu_time_of_those_who_are_gone_stays_in_the_sum(processes: ServiceProcesses, forked: Forked) -> None:
    def cpu() -> int:
        return sum(each.stat.user + each.stat.system + each.stat.reaped for each in processes.settled())

    pid = forked.start(1, lambda: sum(range(8_000_000)))
    before = cpu()
    assert by_worker(processes)[1].stat.user > 0
    forked.kill(pid)
    assert cpu() >= before


def test_what_the_kernel_tells_is_what_psutil_reads(processes: ServiceProcesses, forked: Forked) -> None:
    pid = forked.start(1)
    seen, known = by_worker(processes)[1], psutil.Process(pid)
    assert seen.stat.virtual == known.memory_info().vms
    # The kernel counts it in two ways.
    assert seen.stat.resident * os.sysconf("SC_PAGE_SIZE") == pytest.approx(known.memory_info().rss, rel=0.1)
    assert (seen.fds, seen.stat.threads) == (known.num_fds(), known.num_threads())
    assert seen.stat.user / os.sysconf("SC_CLK_TCK") == known.cpu_times().user


def test_those_who_did_not_enter_see_all_and_themselves(processes: ServiceProcesses, forked: Forked) -> None:
    reader, writer = os.pipe()
    forked.start(1, lambda: os.write(writer, repr([each.pid for each in processes.members()]).encode()), enters=False)
    told = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    assert told.startswith(f"[{os.getpid()}, ")
    assert len(told.split(",")) == 2


def test_one_alone_sees_itself() -> None:
    (member,) = ServiceProcesses().members()
    assert (member.pid, member.role, member.worker) == (os.getpid(), "", 0)


def test_workers_beyond_the_rows_are_not_seen_by_others_and_do_no_harm(
    processes: ServiceProcesses, forked: Forked
) -> None:
    forked.start(100)
    assert set(by_worker(processes)) == {0}


def test_those_who_are_gone_leave_no_file_open(processes: ServiceProcesses, forked: Forked) -> None:
    before = psutil.Process().num_fds()
    for _ in range(5):
        pid = forked.start(1)
        processes.members()
        forked.kill(pid)
    processes.enter("main")
    forked.start(1)
    processes.members()
    assert psutil.Process().num_fds() <= before + 2


def test_any_name_of_a_process_is_read_past() -> None:
    line = b"7 (a) b (c) R 1 " + b" ".join(str(number).encode() for number in range(5, 60))
    assert Stat.of(line).state == b"R"
    assert (Stat.of(line).user, Stat.of(line).reaped) == (14, 16 + 17)
