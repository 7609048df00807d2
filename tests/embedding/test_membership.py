"""The processes that serve one service, and their keeper, know of each other by locks on a file."""

import ast
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stator.embedding.membership import Membership, path_for
from tests.program import ROOT

# Evaluates what it reads, a line each.
OTHER_PROCESS = """
import sys
from pathlib import Path
from stator.embedding.membership import Membership
member = Membership(Path(sys.argv[1]))
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Other:
    """A member or a keeper in another process: record locks do not count within one."""

    def __init__(self, file: Path) -> None:
        command = [sys.executable, "-c", OTHER_PROCESS, str(file)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self._process.pid

    def call(self, method: str) -> Any:
        """What a method of its membership returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"member.{method}", file=self._process.stdin)
        return ast.literal_eval(self._process.stdout.readline())

    def kill(self) -> None:
        with self._process:
            self._process.kill()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def other(file: Path) -> Iterator[Other]:
    running = Other(file)
    yield running
    running.kill()


@pytest.fixture
def keeper(other: Other, file: Path) -> Other:
    file.touch(0o600)
    assert other.call("become_keeper(b'one')")
    return other


def join(file: Path) -> Membership:
    membership = Membership(file)
    membership.join()
    return membership


@contextmanager
def joining(newcomer: Membership) -> Iterator[None]:
    """A context at whose begin a newcomer waits, and at whose end it has joined."""
    thread = threading.Thread(target=newcomer.join)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    yield
    thread.join(10)
    assert not thread.is_alive()


def test_only_the_process_that_leaves_last_is_the_last_one(file: Path) -> None:
    members = [join(file) for _ in range(3)]
    assert [each.leave() for each in members] == [False, False, True]


def test_a_process_that_has_left_or_never_joined_is_not_the_last_one(file: Path) -> None:
    member = join(file)
    assert member.leave()
    assert not member.leave()
    assert not Membership(file).leave()


def test_a_killed_process_has_left(file: Path, other: Other) -> None:
    keeper = Membership(file)
    other.call("join()")
    assert keeper.become_keeper(b"one")
    assert not keeper.is_abandoned()
    other.kill()
    assert keeper.is_abandoned()


def test_a_forked_child_neither_serves_nor_leaves_for_its_parent(file: Path, keeper: Other) -> None:
    member = join(file)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        is_last = member.leave()
        os.close(write)
        os.read(read, 1)
        os._exit(is_last)
    os.close(read)
    try:
        assert not keeper.call("is_abandoned()")
        member.leave()
        assert keeper.call("is_abandoned()")
    finally:
        os.close(write)
        assert os.waitpid(child, 0)[1] == 0


def test_there_is_one_keeper_and_its_process_is_known(file: Path, keeper: Other) -> None:
    member = join(file)
    assert member.keeper() == Membership(file).keeper() == keeper.pid
    assert not Membership(file).become_keeper(b"one")
    keeper.kill()
    assert member.keeper() is None


def test_nobody_can_join_while_the_keeper_finds_the_service_abandoned(file: Path, keeper: Other) -> None:
    member, newcomer = join(file), Membership(file)
    assert not keeper.call("is_abandoned()")
    assert member.leave()
    assert keeper.call("is_abandoned()")
    with pytest.raises(TimeoutError, match=f"another process has locked {file} for 0 seconds"):
        newcomer.join(0)
    with joining(newcomer):
        keeper.call("release()")
    assert newcomer.leave()


def test_who_waits_until_a_keeper_has_ended_is_without_a_keeper(file: Path, keeper: Other) -> None:
    newcomer = Membership(file)
    assert keeper.call("is_abandoned()")
    with joining(newcomer):
        keeper.call("resign()")
    assert file.exists()
    assert newcomer.keeper() is None
    assert newcomer.leave()


def test_the_last_one_is_the_last_one_also_at_the_moment_at_which_the_keeper_looks(file: Path, keeper: Other) -> None:
    member = join(file)
    member.release()
    assert keeper.call("is_abandoned()")
    assert member.leave()


def test_one_process_at_a_time_looks_for_a_keeper(file: Path, other: Other) -> None:
    member = join(file)
    other.call("join()")
    with member.turn(0):
        assert member.keeper() is None
        began = time.monotonic()
        other.call("turn(0.5).__enter__()")  # it does not wait for ever
        assert time.monotonic() - began >= 0.5
    began = time.monotonic()
    other.call("turn(5).__enter__()")
    assert time.monotonic() - began < 5


def test_a_task_is_requested_once(file: Path, keeper: Other) -> None:
    first, second = join(file), join(file)
    assert not first.request(b"one")
    assert second.request(b"one")
    assert not keeper.call("is_replaced()")
    assert not second.request(b"two")
    assert keeper.call("is_replaced()")


def test_a_keeper_that_ends_in_order_differs_from_one_that_was_killed(file: Path, keeper: Other) -> None:
    member = join(file)
    member.request(b"one")
    assert not member.is_unregistered()
    keeper.call("resign()")
    assert member.keeper() is None
    assert member.is_unregistered()
    assert not member.request(b"one")
    keeper.call("become_keeper(b'one')")
    keeper.kill()
    assert member.keeper() is None
    assert not member.is_unregistered()


def test_the_keeper_leaves_no_file(file: Path, keeper: Other) -> None:
    join(file).leave()
    keeper.call("resign()")
    assert not file.exists()


def test_the_last_process_leaves_no_file_if_the_keeper_was_killed_or_replaced(file: Path, keeper: Other) -> None:
    member = join(file)
    keeper.call("resign()")
    assert file.exists()
    assert member.leave()
    assert not file.exists()


def test_the_keeper_marks_the_file_as_used_each_hour(file: Path) -> None:
    file.touch(0o600)
    keeper = Membership(file)
    assert keeper.become_keeper(b"one")
    for minutes, is_marked in ((0, False), (50, False), (70, True), (10**6, True)):
        before = int(time.time()) - 60 * minutes
        os.utime(file, (before, before))
        keeper.is_abandoned()
        assert (file.stat().st_mtime > before) == is_marked


def test_a_lock_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.touch(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    with pytest.raises(PermissionError, match=f"{file} belongs to another user"):
        join(file)


def test_what_is_no_plain_file_is_refused_at_once(file: Path) -> None:
    os.mkfifo(file, 0o600)
    with pytest.raises(PermissionError, match="is not a file"):
        join(file)
    file.unlink()
    file.symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        join(file)
    assert not file.with_name("elsewhere").exists()


def test_a_lock_that_another_process_holds_is_waited_for_in_vain_but_not_for_ever(file: Path) -> None:
    with file.open("w") as held:
        file.chmod(0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="has locked"):
            Membership(file).join(0.1)
    assert join(file).leave()


def test_the_path_differs_by_user_and_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = path_for(tmp_path, ".lock", "shop", 8000)
    assert own == path_for(tmp_path, ".lock", "shop", 8000)
    assert own.parent == tmp_path
    assert own.suffix == ".lock"
    assert path_for(tmp_path, ".lock", "shop", 8001) != own
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert path_for(tmp_path, ".lock", "shop", 8000) != own
