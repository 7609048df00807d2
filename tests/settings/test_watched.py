import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stator.settings.watched import WatchedFiles, read_all_again


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "numbers"
    path.write_text("1")
    return path


def load(*files: Path) -> Callable[[], int]:
    return lambda: sum(int(each.read_text()) for each in files)


def test_a_changed_file_is_read_again_within_a_second(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = WatchedFiles(load(file), [str(file)])
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    file.write_text("22")
    assert numbers.get() == 1
    now += 1
    assert numbers.get() == 22


def test_a_replaced_file_of_the_same_size_and_time_is_read_again(file: Path, tmp_path: Path) -> None:
    numbers = WatchedFiles(load(file), [str(file)])
    other = tmp_path / "other"
    other.write_text("2")
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    assert numbers.read_again()
    assert numbers.get() == 2


def test_a_link_to_another_file_is_read_again(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    numbers = WatchedFiles(load(link), [str(link)])
    (tmp_path / "other").write_text("5")
    link.unlink()
    link.symlink_to(tmp_path / "other")
    assert numbers.read_again()
    assert numbers.get() == 5


def test_the_first_load_raises_its_error(file: Path) -> None:
    file.write_text("one")
    with pytest.raises(ValueError, match="one"):
        WatchedFiles(load(file), [str(file)])


def test_what_can_not_be_used_is_logged_once_and_the_old_stays(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    numbers = WatchedFiles(load(file), [str(file)])
    file.write_text("two")
    for _ in range(4):
        assert not numbers.read_again()
    (line,) = caplog.messages
    assert str(file) in line
    assert "going on with the old ones" in line
    file.write_text("3")
    assert numbers.read_again()
    assert numbers.get() == 3


def test_two_files_that_are_replaced_one_after_the_other_log_nothing(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("1")

    def pair() -> int:
        if file.read_text() != key.read_text():
            msg = "they don't fit"
            raise ValueError(msg)
        return int(file.read_text())

    numbers = WatchedFiles(pair, [str(file), str(key)])
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    file.write_text("2")
    now += 1
    assert numbers.get() == 1
    key.write_text("2")
    now += 1
    assert numbers.get() == 2
    assert not caplog.messages


def test_what_can_not_be_used_is_logged_at_the_second_look(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = WatchedFiles(load(file), [str(file)])
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    file.write_text("two")
    logged = []
    for _ in range(4):
        now += 1
        assert numbers.get() == 1
        logged.append(len(caplog.messages))
    assert logged == [0, 1, 1, 1]


def test_a_file_that_is_gone_leaves_what_it_held(file: Path) -> None:
    numbers = WatchedFiles(load(file), [str(file)])
    file.unlink()
    assert not numbers.read_again()
    assert numbers.get() == 1


def test_all_that_have_changed_are_read_again_at_once(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("1")
    numbers = WatchedFiles(load(file), [str(file)])
    others = WatchedFiles(load(other), [str(other)])
    file.write_text("22")
    assert read_all_again() == [str(file)]
    assert (numbers.get(), others.get()) == (22, 1)
    assert read_all_again() == []
