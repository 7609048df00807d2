"""Which of several processes that serve the same service is the last one to leave."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stator.embedding.membership import Membership
from tests.program import ROOT


def join(folder: Path, *key: object) -> Membership:
    membership = Membership(folder, *key)
    membership.join()
    return membership


def test_only_the_process_that_leaves_last_is_the_last_one(tmp_path: Path) -> None:
    first, second, third = (join(tmp_path, "shop") for _ in range(3))
    assert not second.is_last()
    second.leave()
    assert not first.is_last()
    first.leave()
    assert third.is_last()


def test_of_processes_that_leave_at_the_same_time_exactly_one_is_the_last(tmp_path: Path) -> None:
    for _ in range(20):
        leaving = [join(tmp_path, "shop") for _ in range(4)]
        with ThreadPoolExecutor(len(leaving)) as threads:
            answers = list(threads.map(Membership.is_last, leaving))
        assert answers.count(True) == 1
        for each in leaving:
            each.leave()


def test_processes_that_serve_another_service_do_not_count(tmp_path: Path) -> None:
    shop, other = join(tmp_path, "shop", 8000), join(tmp_path, "shop", 8001)
    assert shop.is_last()
    assert other.is_last()


JOINS_AND_STAYS = """
import sys, time
from pathlib import Path
from stator.embedding.membership import Membership
Membership(Path(sys.argv[1]), "shop").join()
print("joined", flush=True)
time.sleep(60)
"""


def test_a_killed_process_has_left(tmp_path: Path) -> None:
    own = join(tmp_path, "shop")
    command = [sys.executable, "-c", JOINS_AND_STAYS, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"joined\n"
        assert not own.is_last()
        other.kill()
    assert join(tmp_path, "shop").is_last()


def test_a_newcomer_waits_until_the_last_one_has_left(tmp_path: Path) -> None:
    leaving, newcomer = join(tmp_path, "shop"), Membership(tmp_path, "shop")
    assert leaving.is_last()
    thread = threading.Thread(target=newcomer.join)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    leaving.leave()
    thread.join(10)
    assert not thread.is_alive()
    assert newcomer.is_last()


def test_the_last_one_removes_the_lock_file(tmp_path: Path) -> None:
    single = join(tmp_path, "shop")
    assert single.is_last()
    single.leave()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_never_joined_is_the_last_one(tmp_path: Path) -> None:
    assert Membership(tmp_path, "shop").is_last()
