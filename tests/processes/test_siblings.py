"""Workers of a server find each other, whether Stator was imported before they were forked or by each of them."""

import ctypes
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
from stator.server.signals import end_with_parent
from tests.program import eventually

Seen = list[tuple[str, int, int]]


class Child(NamedTuple):
    """A child that has created its `Siblings`, and answers each question with what it sees.

    Attributes:
        pid: Its id.
        questions: Descriptor to write to.
        answers: Descriptor to read from.
    """

    pid: int
    questions: int
    answers: int

    def sees(self) -> Seen:
        """Returns role, worker's number and process id of each process that it sees, in this order."""
        os.write(self.questions, b"?")
        seen: Seen = eval(os.read(self.answers, 65536))
        return seen


def sees(processes: Siblings) -> Seen:
    return sorted((each.role, each.worker, each.pid) for each in processes.snapshot())


Make = Callable[[], Siblings]


class Server:
    """A process that has children; this one."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, make: Make) -> Child:
        """Forks a child that creates its own `Siblings`, or takes what was created before."""
        (asked, questions), (answers, answer) = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                processes = make()
                os.write(answer, b"made")
                while os.read(asked, 1):
                    os.write(answer, repr(sees(processes)).encode())
            finally:
                os._exit(1)
        os.close(asked)
        os.close(answer)
        self.children.append(Child(pid, questions, answers))
        return self.children[-1]

    def start_and_wait(self, make: Make) -> Child:
        child = self.start(make)
        assert os.read(child.answers, 4) == b"made"
        return child

    def kill(self, child: Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        os.close(child.questions)
        os.close(child.answers)
        self.children.remove(child)

    def end(self) -> None:
        for each in list(self.children):
            self.kill(each)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


def unexpected(error: Exception) -> None:
    raise error


def new(service: str = "shop") -> Siblings:
    return Siblings(service, unexpected)


@pytest.fixture(params=["before the fork", "by each"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "by each":
        return new
    inherited = new()
    return lambda: inherited


def family(*workers: Child) -> Seen:
    """Returns what each of the workers should see; they are given in the order of their numbers."""
    numbered = [("worker", number, each.pid) for number, each in enumerate(workers, 1)]
    return [("arbiter", 0, os.getpid()), *numbered]


def test_each_worker_sees_all_and_their_parent(make: Make, server: Server) -> None:
    workers = [server.start_and_wait(make) for _ in range(3)]
    assert [each.sees() for each in workers] == [family(*workers)] * 3


def test_workers_that_start_at_the_same_time_have_a_number_each(make: Make, server: Server) -> None:
    workers = [server.start(make) for _ in range(12)]
    assert [os.read(each.answers, 4) for each in workers] == [b"made"] * 12
    first, *others = (each.sees() for each in workers)
    assert [number for _, number, _ in first] == list(range(13))
    assert {pid for _, _, pid in first} == {os.getpid(), *(each.pid for each in workers)}
    assert others == [first] * 11


def test_a_killed_worker_is_gone_and_its_replacement_has_its_number(make: Make, server: Server) -> None:
    first, second, third = (server.start_and_wait(make) for _ in range(3))
    server.kill(first)
    assert second.sees() == third.sees() == family(first, second, third)[:1] + family(first, second, third)[2:]
    replacement = server.start_and_wait(make)
    assert second.sees() == replacement.sees() == family(replacement, second, third)


def test_workers_find_each_other_after_the_first_is_gone(server: Server) -> None:
    first, second = server.start_and_wait(new), server.start_and_wait(new)
    server.kill(first)
    third = server.start_and_wait(new)
    assert second.sees() == third.sees() == family(third, second)


def test_their_parent_sees_itself_alone(server: Server) -> None:
    inherited = new()
    server.start_and_wait(lambda: inherited)
    assert sees(inherited) == [("", 0, os.getpid())]


def test_services_of_other_names_are_no_siblings(server: Server) -> None:
    shop, stock = server.start_and_wait(lambda: new("shop")), server.start_and_wait(lambda: new("stock"))
    assert (shop.sees(), stock.sees()) == (family(shop), family(stock))


def test_two_applications_in_each_worker_both_see_all_workers(server: Server) -> None:
    def twice() -> Siblings:
        kept.append(new())
        return new()

    kept: list[Siblings] = []
    workers = [server.start_and_wait(twice) for _ in range(2)]
    assert [each.sees() for each in workers] == [family(*workers)] * 2


def test_all_workers_of_one_run_have_a_text_in_common(server: Server) -> None:
    def report_run(processes: Siblings) -> Siblings:
        os.write(writer, f"{processes.run}\n".encode())
        return processes

    reader, writer = os.pipe()
    server.start_and_wait(lambda: report_run(new()))
    server.start_and_wait(lambda: report_run(new()))
    first, second = os.read(reader, 1000).split(b"\n")[:2]
    assert first == second != b"None"
    assert new().run == first.decode()  # as the parent, which may have loaded the application before its workers
    os.close(reader)
    os.close(writer)


def test_a_child_of_a_worker_is_no_worker(make: Make, server: Server) -> None:
    def with_child() -> Siblings:
        processes = make()
        if os.fork() == 0:
            os.close(0)
            signal.pause()
        return processes

    worker = server.start_and_wait(with_child)
    (grandchild,) = psutil.Process(worker.pid).children()
    try:
        assert worker.sees() == family(worker)
    finally:
        grandchild.kill()


def test_a_child_that_becomes_another_program_is_no_worker(server: Server) -> None:
    inherited = new()
    worker = server.start_and_wait(lambda: inherited)
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", "60"])
    try:
        eventually(lambda: "sleep" in psutil.Process(pid).cmdline())
        assert worker.sees() == family(worker)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_daemon_is_no_worker(server: Server) -> None:
    def daemon() -> Siblings:
        os.setsid()
        return new()

    child = server.start_and_wait(daemon)
    assert child.sees() == [("", 0, child.pid)]


@contextmanager
def one_worker() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(siblings, "WORKERS", 1)
        yield


def test_a_worker_too_many_sees_itself_alone_and_is_not_seen(server: Server) -> None:
    def make() -> Siblings:
        return Siblings("shop", lambda _: None)

    with one_worker():
        first, second = server.start_and_wait(make), server.start_and_wait(make)
    assert (first.sees(), second.sees()) == (family(first), [("", 0, second.pid)])


def test_without_shared_memory_a_process_says_why_and_sees_itself_alone() -> None:
    errors: list[Exception] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        processes = Siblings("shop", errors.append)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [str(each).split("]")[1].split(":")[0] for each in errors] == [" Too many open files"]
    assert sees(processes) == [("", 0, os.getpid())]


def test_a_process_that_was_forked_without_hooks_says_so_once(server: Server) -> None:
    def forked_by_libc() -> Siblings:
        processes = Siblings("shop", lambda error: os.write(writer, f"{error}\n".encode()))
        if ctypes.PyDLL(None).fork():  # which keeps the interpreter's lock
            signal.pause()
        end_with_parent(os.getppid(), signal.SIGKILL)
        return processes

    reader, writer = os.pipe()
    child = server.start_and_wait(forked_by_libc)
    for _ in range(2):
        (pid,) = [pid for role, _, pid in child.sees() if not role]
        assert pid != child.pid
    assert os.read(reader, 1000).decode().splitlines() == [
        "forked without Python's at-fork hooks; start uWSGI with --py-call-osafterfork or --lazy-apps"
    ]
    os.close(reader)
    os.close(writer)


def test_dropped_siblings_leave_no_file_and_no_callback_behind() -> None:
    gc.collect()
    before = (psutil.Process().num_fds(), len(gc.callbacks))
    for _ in range(5):
        new().snapshot()
    gc.collect()
    assert (psutil.Process().num_fds(), len(gc.callbacks)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_worker_that_has_changed_its_user_says_what_helps(server: Server) -> None:
    def make() -> Siblings:
        os.setuid(65534)
        return Siblings("shop", lambda error: os.write(writer, str(error).encode()))

    reader, writer = os.pipe()
    first, second = server.start_and_wait(new), server.start_and_wait(make)
    assert os.read(reader, 1000).endswith(b"(/proc denies it); use gunicorn --preload")
    assert (first.sees(), second.sees()) == (family(first), [("", 0, second.pid)])
    os.close(reader)
    os.close(writer)
