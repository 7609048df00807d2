"""The file that Prometheus reads targets from is there, whole and right, as long as the service is."""

import json
import os
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stator.roster.file_sd import File, FileConfig
from stator.roster.registrar import RegistrarError
from stator.roster.service import Service, ServiceConfig


def service(**settings: Any) -> Service:
    return ServiceConfig(**{"id": "1", "ip_address": "10.0.0.1", "tags": ("dev", "metrics")} | settings).build(8087, "")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stator.json"


@pytest.fixture
def file(path: Path) -> File:
    return FileConfig(str(path)).build()


def test_writes_one_target_and_takes_it_away(file: File, path: Path) -> None:
    file.register(service())
    assert json.loads(path.read_text()) == [
        {
            "targets": ["10.0.0.1:8087"],
            "labels": {"service": "stator", "service_id": "stator-1", "tags": ",dev,metrics,"},
        }
    ]
    file.unregister(service())
    assert list(path.parent.iterdir()) == []


def test_a_target_that_serves_https_says_so(file: File, path: Path) -> None:
    file.register(ServiceConfig(id="1", ip_address="10.0.0.1").build(8087, "", scheme="https"))
    (target,) = json.loads(path.read_text())
    assert (target["targets"], target["labels"]["__scheme__"]) == (["10.0.0.1:8087"], "https")


def test_unregistering_twice_is_no_error(file: File) -> None:
    file.register(service())
    file.unregister(service())
    file.unregister(service())


def test_an_ipv6_target_stands_in_brackets(file: File, path: Path) -> None:
    file.register(service(ip_address="2001:db8::1"))
    assert json.loads(path.read_text())[0]["targets"] == ["[2001:db8::1]:8087"]


def test_meta_become_labels_with_names_that_prometheus_takes(file: File, path: Path) -> None:
    file.register(service(meta=(("version", "1.2"), ("team name", "a b"), ("naïve-key.x", '"ö"\n'))))
    labels = json.loads(path.read_text())[0]["labels"]
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in labels)
    assert (labels["meta_version"], labels["meta_team_name"]) == ("1.2", "a b")
    assert labels["meta_na_ve_key_x"] == '"ö"\n'


def test_prometheus_may_read_it_whatever_our_umask_is(file: File, path: Path) -> None:
    umask = os.umask(0o077)
    try:
        file.register(service())
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_reader_never_sees_half_a_file(file: File, path: Path) -> None:
    file.register(service())

    def write() -> None:
        for number in range(300):
            file.register(service(tags=tuple("abcdefgh" * (number % 50))))

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive():
        (target,) = json.loads(path.read_text())
        assert target["targets"] == ["10.0.0.1:8087"]
        reads += 1
    writer.join()
    assert reads > 0
    assert list(path.parent.iterdir()) == [path]


def test_an_older_target_is_replaced(file: File, path: Path) -> None:
    path.write_text("rubbish")
    file.register(service())
    assert json.loads(path.read_text())[0]["labels"]["service_id"] == "stator-1"


def test_the_target_of_a_symbolic_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    target, link = tmp_path / "targets/stator.json", tmp_path / "link.json"
    link.symlink_to("targets/stator.json")
    assert list(FileConfig(str(link)).problems()) == []
    file = FileConfig(str(link)).build()
    file.register(service())
    assert link.is_symlink()
    assert json.loads(target.read_text())[0]["targets"] == ["10.0.0.1:8087"]
    assert file.observe(service()).problem == ""
    file.unregister(service())
    assert link.is_symlink()
    assert list(target.parent.iterdir()) == []


def test_a_folder_that_is_gone_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    folder.mkdir()
    file = FileConfig(str(folder / "stator.json")).build()
    shutil.rmtree(folder)
    with pytest.raises(RegistrarError, match=r"can't write .*/targets/stator.json: No such file or directory"):
        file.register(service())
    file.unregister(service())


def test_a_folder_in_its_place_is_an_error_and_leaves_nothing_behind(file: File, path: Path) -> None:
    path.mkdir()
    with pytest.raises(RegistrarError, match=r"can't write .*stator.json: Is a directory"):
        file.register(service())
    with pytest.raises(RegistrarError, match=r"can't remove .*stator.json: Is a directory"):
        file.unregister(service())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("targets.yml", "ends in .json"),
        ("missing/targets.json", "no folder"),
        ("taken/../taken", "ends in .json"),
        ("folder.json", "it is a folder"),
        ("pipe.json", "it is no file"),
        ("link.json", "it is no file"),
        ("loop.json", "its symbolic links form a loop"),
    ],
)
def test_a_path_that_can_not_be_used_is_reported_at_the_start(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("pipe.json")
    (tmp_path / "loop.json").symlink_to("loop.json")
    ((setting, expected),) = FileConfig(str(tmp_path / name)).problems()
    assert setting == "path"
    assert reason in expected


def test_a_file_is_observed_as_it_should_be_as_altered_and_as_gone(file: File, path: Path) -> None:
    file.register(service())
    seen = file.observe(service())
    assert seen.problem == ""
    path.write_text("[]")
    assert file.observe(service()).problem == "the file holds something else"
    assert file.observe(service()).version != seen.version
    path.unlink()
    assert file.observe(service()).problem == "the file is gone"


def test_a_pipe_in_its_place_is_not_waited_for_but_replaced(file: File, path: Path) -> None:
    os.mkfifo(path)
    assert file.observe(service()).problem == "the file holds something else"
    file.register(service())
    assert file.observe(service()).problem == ""


def test_an_observation_waits_until_the_file_changes_or_time_is_over_or_it_is_cancelled(file: File, path: Path) -> None:
    file.register(service())
    seen = file.observe(service())
    start = time.monotonic()
    assert file.observe(service(), since=seen.version, wait=0.2) == seen
    assert 0.2 <= time.monotonic() - start < 2
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(file.observe, service(), since=seen.version, wait=60)
        path.unlink()
        assert waiting.result(5).problem == "the file is gone"
        file.register(service())
        waiting = pool.submit(file.observe, service(), since=file.observe(service()).version, wait=60)
        file.cancel()
        assert waiting.result(1).problem == ""


def test_a_file_that_can_not_be_read_is_an_error_that_names_it(file: File, path: Path) -> None:
    path.mkdir()
    with pytest.raises(RegistrarError, match=r"can't read .*stator.json: Is a directory") as raised:
        file.observe(service())
    assert raised.value.reason == "file"


def test_a_path_that_can_be_used_is_good(path: Path) -> None:
    assert list(FileConfig(str(path)).problems()) == []
    assert list(FileConfig().problems()) == []
