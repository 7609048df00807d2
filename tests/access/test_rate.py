"""The limit of all clients' requests together."""

import os
import signal
import threading
import time

from stator.access.rate import RateLimit, TokenBucket
from tests.program import eventually, stand_still


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(bucket: TokenBucket, limit: RateLimit, tries: int) -> int:
    return sum(bucket.take(limit) for _ in range(tries))


def test_a_burst_passes_and_then_one_in_each_interval() -> None:
    clock = Clock()
    bucket, limit = TokenBucket(clock), RateLimit(0.5, 3)
    assert taken(bucket, limit, 10) == 3
    for _ in range(4):
        clock.now += 0.5
        assert taken(bucket, limit, 10) == 1
    clock.now += 1.1
    assert taken(bucket, limit, 10) == 2
    clock.now += 1000
    assert taken(bucket, limit, 10) == 3


def test_without_a_burst_nothing_passes() -> None:
    assert [taken(TokenBucket(), RateLimit(1, burst), 5) for burst in (0, -1)] == [0, 0]


def test_another_limit_holds_at_once() -> None:
    clock = Clock()
    bucket = TokenBucket(clock)
    assert taken(bucket, RateLimit(3600, 10), 20) == 10
    clock.now += 1
    assert taken(bucket, RateLimit(1, 2), 20) == 0
    clock.now += 2
    assert taken(bucket, RateLimit(1, 2), 20) == 2


def test_all_processes_and_threads_share_it() -> None:
    bucket, limit = TokenBucket(), RateLimit(3600, 1000)
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os._exit(taken(bucket, limit, 250))
        children.append(pid)
    found = list[int]()
    threads = [threading.Thread(target=lambda: found.append(taken(bucket, limit, 250))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    counts = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert sum(counts) + sum(found) == 1000


def test_a_process_that_is_killed_while_it_counts_holds_up_nobody() -> None:
    inside, leave = os.pipe()

    class Slow:
        """A clock that is looked at while the count is locked."""

        def __call__(self) -> float:
            if os.getpid() != parent:
                os.write(leave, b"!")
                time.sleep(60)
            return 1.0

    parent, limit = os.getpid(), RateLimit(1, 1)
    bucket = TokenBucket(Slow())
    pid = os.fork()
    if pid == 0:
        bucket.take(limit)
        os._exit(0)
    assert os.read(inside, 1) == b"!"
    stand_still(pid)
    waiting = threading.Thread(target=bucket.take, args=(limit,))
    waiting.start()
    assert waiting.is_alive()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert eventually(lambda: not waiting.is_alive())
    os.close(inside)
    os.close(leave)
