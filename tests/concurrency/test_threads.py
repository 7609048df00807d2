"""Threads are daemons, are used again, and end when nobody needs them."""

import threading
import time
import weakref
from collections.abc import Callable

import pytest

from stator.concurrency.threads import DaemonThreads
from tests.program import eventually

SOON = 10.0


def run(threads: DaemonThreads, function: Callable[[], object] = lambda: None) -> threading.Thread:
    """Runs a function to its end; returns the thread that it ran in."""
    ran: list[threading.Thread] = []
    done = threading.Event()

    def noted() -> None:
        ran.append(threading.current_thread())
        function()
        done.set()

    threads.run(noted)
    assert done.wait(SOON)
    return ran[0]


def test_no_thread_keeps_the_process_alive() -> None:
    assert run(DaemonThreads()).daemon


def test_there_is_no_thread_before_the_first_function() -> None:
    before = threading.active_count()
    DaemonThreads()
    assert threading.active_count() == before


def test_an_idle_thread_is_used_again() -> None:
    threads = DaemonThreads(SOON)
    used = set()
    for _ in range(20):
        used.add(run(threads))
        time.sleep(0.01)  # until it is idle
    assert len(used) < 5


def test_functions_at_the_same_time_have_threads_of_their_own() -> None:
    threads = DaemonThreads()
    together = threading.Barrier(10)
    for _ in range(9):
        threads.run(lambda: together.wait(SOON))
    together.wait(SOON)
    assert not together.broken


def test_idle_threads_end() -> None:
    threads = DaemonThreads(0.05)
    gone = run(threads)
    gone.join(SOON)
    assert not gone.is_alive()
    assert run(threads) is not gone


def test_no_function_is_lost_while_idle_threads_end() -> None:
    threads = DaemonThreads(0.0005)
    for turn in range(500):
        time.sleep(0.0005 * (turn % 3))
        run(threads)


def test_what_a_function_held_is_freed_when_it_has_run() -> None:
    class Held:
        pass

    threads = DaemonThreads(SOON)
    for _ in range(3):  # in a new thread, and in one that is used again
        held = Held()
        freed = weakref.ref(held)
        run(threads, lambda held=held: None)  # type: ignore[misc]
        del held
        eventually(lambda freed=freed: freed() is None)  # type: ignore[misc]


def test_where_no_thread_can_be_started_it_is_an_error_and_the_next_may_work(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = DaemonThreads()

    def refuse(_thread: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.run(lambda: None)
    assert run(threads).daemon
