"""Workers of a server find each other, whether Stator was there before they were forked or came with each of them."""

import gc
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil
import pytest

from stator.processes import siblings
from stator.processes.siblings import Siblings
from tests.program import eventually

Seen = list[tuple[str, int, int]]


class Child(NamedTuple):
    """A child that has made what it should, and tells what it sees each time that it's asked."""

    pid: int
    ask: int
    told: int

    def sees(self) -> Seen:
        """Role, worker's number and process id of each, in this order."""
        os.write(self.ask, b"?")
        told: Seen = eval(os.read(self.told, 65536))
        return told


def sees(processes: Siblings) -> Seen:
    return sorted((each.role, each.worker, each.pid) for each in processes.members())


Make = Callable[[], Siblings]


class Server:
    """A process that has children; this one."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, make: Make) -> Child:
        """A child that makes its own, or takes what was made before."""
        (heard, ask), (told, tell) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                processes = make()
                os.write(tell, b"made")
                while os.read(heard, 1):
                    os.write(tell, repr(sees(processes)).encode())
            finally:
                os._exit(1)
        os.close(heard)
        os.close(tell)
        self.children.append(Child(pid, ask, told))
        return self.children[-1]

    def started(self, make: Make) -> Child:
        child = self.start(make)
        assert os.read(child.told, 4) == b"made"
        return child

    def kill(self, child: Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.ask)
        os.close(child.told)
        self.children.remove(child)

    def end(self) -> None:
        for each in list(self.children):
            self.kill(each)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.end()


def unexpected(error: Exception) -> None:
    raise error


def new(service: str = "shop") -> Siblings:
    return Siblings(service, unexpected)


@pytest.fixture(params=["before the fork", "by each"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "by each":
        return new
    made = new()
    return lambda: made


def family(*workers: Child) -> Seen:
    """What each of the workers should see, given in the order of their numbers."""
    numbered = [("worker", number, each.pid) for number, each in enumerate(workers, 1)]
    return [("arbiter", 0, os.getpid()), *numbered]


def test_each_worker_sees_all_and_their_parent(make: Make, server: Server) -> None:
    workers = [server.started(make) for _ in range(3)]
    assert [each.sees() for each in workers] == [family(*workers)] * 3


def test_those_who_come_at_the_same_time_have_a_number_each(make: Make, server: Server) -> None:
    workers = [server.start(make) for _ in range(12)]
    assert [os.read(each.told, 4) for each in workers] == [b"made"] * 12
    first, *others = (each.sees() for each in workers)
    assert [number for _, number, _ in first] == list(range(13))
    assert {pid for _, _, pid in first} == {os.getpid(), *(each.pid for each in workers)}
    assert others == [first] * 11


def test_one_that_is_killed_is_gone_and_the_next_has_its_number(make: Make, server: Server) -> None:
    first, second, third = (server.started(make) for _ in range(3))
    server.kill(first)
    assert second.sees() == third.sees() == family(first, second, third)[:1] + family(first, second, third)[2:]
    replacement = server.started(make)
    assert second.sees() == replacement.sees() == family(replacement, second, third)


def test_they_find_each_other_also_when_the_first_is_gone(server: Server) -> None:
    first, second = server.started(new), server.started(new)
    server.kill(first)
    third = server.started(new)
    assert second.sees() == third.sees() == family(third, second)


def test_their_parent_sees_itself_alone(server: Server) -> None:
    made = new()
    server.started(lambda: made)
    assert sees(made) == [("", 0, os.getpid())]


def test_services_of_other_names_are_no_siblings(server: Server) -> None:
    shop, stock = server.started(lambda: new("shop")), server.started(lambda: new("stock"))
    assert (shop.sees(), stock.sees()) == (family(shop), family(stock))


def test_what_is_made_twice_in_each_sees_all_twice(server: Server) -> None:
    def twice() -> Siblings:
        kept.append(new())
        return new()

    kept: list[Siblings] = []
    workers = [server.started(twice) for _ in range(2)]
    assert [each.sees() for each in workers] == [family(*workers)] * 2


def test_all_of_one_run_know_a_text_that_others_do_not(server: Server) -> None:
    def told(processes: Siblings) -> Siblings:
        os.write(writer, f"{processes.run}\n".encode())
        return processes

    reader, writer = os.pipe()
    server.started(lambda: told(new()))
    server.started(lambda: told(new()))
    first, second = os.read(reader, 1000).split(b"\n")[:2]
    assert first == second != b"None"
    assert new().run is None
    os.close(reader)
    os.close(writer)


def test_what_a_worker_forks_is_no_worker(make: Make, server: Server) -> None:
    def with_child() -> Siblings:
        processes = make()
        if os.fork() == 0:
            os.close(0)
            signal.pause()
        return processes

    worker = server.started(with_child)
    (grandchild,) = psutil.Process(worker.pid).children()
    try:
        assert worker.sees() == family(worker)
    finally:
        grandchild.kill()


def test_one_that_becomes_another_program_is_no_worker(server: Server) -> None:
    made = new()
    worker = server.started(lambda: made)
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "60"])
    try:
        eventually(lambda: "sleep" in psutil.Process(pid).cmdline())
        assert worker.sees() == family(worker)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_daemon_is_nobodys_worker(server: Server) -> None:
    def daemon() -> Siblings:
        os.setsid()
        return new()

    child = server.started(daemon)
    assert child.sees() == [("", 0, child.pid)]


@contextmanager
def one_worker() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(siblings, "WORKERS", 1)
        yield


def test_one_too_many_sees_itself_alone_and_is_not_seen(server: Server) -> None:
    why: list[str] = []

    def told() -> Siblings:
        return Siblings("shop", lambda error: why.append(str(error)))

    with one_worker():
        first, second = server.started(told), server.started(told)
    assert (first.sees(), second.sees()) == (family(first), [("", 0, second.pid)])


def test_where_no_memory_can_be_had_it_says_so_and_sees_itself_alone() -> None:
    why: list[Exception] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        made = Siblings("shop", why.append)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [str(each).split("]")[1].split(":")[0] for each in why] == [" Too many open files"]
    assert sees(made) == [("", 0, os.getpid())]


def test_what_is_no_longer_kept_leaves_nothing_behind() -> None:
    gc.collect()
    before = (psutil.Process().num_fds(), len(gc.callbacks))
    for _ in range(5):
        new().members()
    gc.collect()
    assert (psutil.Process().num_fds(), len(gc.callbacks)) == before
