"""Who is the last of those that serve the same."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stator.embedding.membership import Membership
from tests.program import ROOT


def come(folder: Path, *what: object) -> Membership:
    made = Membership(folder, *what)
    made.come()
    return made


def test_only_the_last_one_that_leaves_is_the_last(tmp_path: Path) -> None:
    first, second, third = (come(tmp_path, "shop") for _ in range(3))
    assert not second.is_last()
    second.leave()
    assert not first.is_last()
    first.leave()
    assert third.is_last()


def test_of_those_who_leave_at_the_same_time_one_is_the_last(tmp_path: Path) -> None:
    for _ in range(20):
        leaving = [come(tmp_path, "shop") for _ in range(4)]
        with ThreadPoolExecutor(len(leaving)) as threads:
            told = list(threads.map(Membership.is_last, leaving))
        assert told.count(True) == 1
        for each in leaving:
            each.leave()


def test_those_who_serve_something_else_do_not_count(tmp_path: Path) -> None:
    shop, other = come(tmp_path, "shop", 8000), come(tmp_path, "shop", 8001)
    assert shop.is_last()
    assert other.is_last()


COMES_AND_STAYS = """
import sys, time
from pathlib import Path
from stator.embedding.membership import Membership
Membership(Path(sys.argv[1]), "shop").come()
print("here", flush=True)
time.sleep(60)
"""


def test_one_that_was_killed_has_left(tmp_path: Path) -> None:
    own = come(tmp_path, "shop")
    command = [sys.executable, "-c", COMES_AND_STAYS, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"here\n"
        assert not own.is_last()
        other.kill()
    assert come(tmp_path, "shop").is_last()


def test_who_comes_waits_until_the_last_one_has_left(tmp_path: Path) -> None:
    leaving, coming = come(tmp_path, "shop"), Membership(tmp_path, "shop")
    assert leaving.is_last()
    thread = threading.Thread(target=coming.come)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    leaving.leave()
    thread.join(10)
    assert not thread.is_alive()
    assert coming.is_last()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    only = come(tmp_path, "shop")
    assert only.is_last()
    only.leave()
    assert list(tmp_path.iterdir()) == []


def test_who_never_came_is_alone(tmp_path: Path) -> None:
    assert Membership(tmp_path, "shop").is_last()
