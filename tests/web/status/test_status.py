"""What the page and /status say, whichever worker answers."""

import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stator.exporter import Collection
from stator.processes.service import ServiceProcesses
from stator.web.status import units
from stator.web.status.collections import MOST, LastCollections
from tests.integration.programs import Consul
from tests.program import Program, eventually

WORKERS = 4


def status_of(stator: Program) -> Any:
    answer = stator.get("/status")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.body)


class Tables(HTMLParser):
    """The tables of a page, by their captions: each is its rows, and each row its cells' texts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._caption, self._inside = "", ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, _attributes: Any) -> None:
        if tag == "tr":
            self.rows.setdefault(self._caption, []).append([])
        if tag in ("td", "th"):
            self.rows[self._caption][-1].append("")
        if tag in ("caption", "td", "th"):
            self._inside = tag
            self._caption = "" if tag == "caption" else self._caption

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "caption":
            self._caption += data
        elif self._inside:
            self.rows[self._caption][-1][-1] += data


@pytest.fixture(scope="module")
def stator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    env = {
        "STTR_SERVER_WORKERS": str(WORKERS),
        "STTR_MONITOR_CHECKS": "disk=exec:true,db=tcp://127.0.0.1:9",
        "STTR_COLLECTORS": "runtime,wave",
    }
    with Program(env, tmp_path_factory.mktemp("stator")) as running:
        running.wait_for("ready")
        eventually(lambda: len(status_of(running)["processes"]) == 2 + WORKERS)
        yield running


def test_a_collector_that_nobody_has_asked_is_said_to_be_so_and_a_look_asks_none(tmp_path: Path) -> None:
    with Program({"STTR_COLLECTORS": "wave"}, tmp_path) as stator:
        for _ in range(2):
            assert status_of(stator)["collectors"] == [
                {"name": "wave", "at": None, "success": None, "seconds": None, "points": None}
            ]
        ((_, *row),) = Tables(stator.get("/").body).rows["Collectors, as of the last scrape"][1:]
        assert row == ["not asked yet", "–", "–", "–"]  # noqa: RUF001 # as it is written


def test_every_worker_says_the_same_of_the_last_scrape_whichever_made_it(stator: Program) -> None:
    before = time.time()
    assert stator.get("/metrics").status == 200
    answers = [status_of(stator) for _ in range(20)]
    collectors = [answer["collectors"] for answer in answers]
    assert all(each == collectors[0] for each in collectors)
    by_name = {each["name"]: each for each in collectors[0]}
    assert by_name.keys() == {"checks", "runtime", "wave"}
    assert all(each["success"] and each["at"] >= before - 1 for each in by_name.values())
    assert by_name["wave"]["points"] == 3
    scraped = stator.get("/metrics?collect[]=wave").body.decode()
    assert len(re.findall("^wave_sine{", scraped, re.MULTILINE)) == 3


def test_all_processes_are_there_with_their_roles_whichever_answers(stator: Program) -> None:
    expected = {process.pid for process in stator.processes()}
    for _ in range(10):
        processes = status_of(stator)["processes"]
        assert {each["pid"] for each in processes} == expected
        assert sorted(each["role"] for each in processes) == ["arbiter", "main", *["worker"] * WORKERS]
        assert all(each["resident_bytes"] > 1e6 and each["started"] > time.time() - 600 for each in processes)


def test_the_checks_are_made_for_the_look(stator: Program) -> None:
    checks = {each["name"]: each for each in status_of(stator)["checks"]}
    assert checks["disk"] == {"name": "disk", "passing": True, "state": "ok"}
    assert not checks["db"]["passing"]
    assert "Connection refused" in checks["db"]["state"]


def test_the_page_has_the_same_facts_in_tables(stator: Program) -> None:
    stator.get("/metrics")
    answer = stator.get("/", {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    rows, status = Tables(answer.body).rows, status_of(stator)
    _, *checks = rows["Health checks, made for this page"]
    assert [row[:2] for row in checks] == [["disk", "passing"], ["db", "failing"]]
    _, *collectors = rows["Collectors, as of the last scrape"]
    assert [row[0] for row in collectors] == ["checks", "runtime", "wave"]
    assert [row[3] for row in collectors] == [str(each["points"]) for each in status["collectors"]]
    _, *processes = rows["Processes of the service"]
    assert [row[0] for row in processes] == [str(each["pid"]) for each in status["processes"]]
    assert processes[0][1] == "main"
    assert status["service"]["run_id"] in answer.body.decode()


def test_the_page_is_for_who_accepts_html_and_others_are_answered_as_the_original_does(stator: Program) -> None:
    assert stator.get("/").headers["content-type"].startswith("text/html")
    answer = stator.get("/", {"Accept": "application/json"})
    assert (answer.status, answer.body) == (404, b'{"not":"found"}')
    assert stator.get("/index.html").body == b'{"not":"found"}'


@pytest.mark.parametrize("path", ["/", "/status", "/config"])
def test_what_may_be_sensitive_is_stored_nowhere(stator: Program, path: str) -> None:
    assert stator.get(path).headers["cache-control"] == "no-store"


def test_a_registration_is_shown_with_all_that_was_registered(tmp_path: Path) -> None:
    folder, beside = tmp_path / "stator", tmp_path / "consul"
    folder.mkdir()
    beside.mkdir()
    with Consul(beside) as consul:
        env = {"STTR_CLIENT_BASEURI": consul.url, "STTR_ROSTER_SERVICE_NAME": "shop", "STTR_SERVER_WORKERS": "2"}
        with Program(env, folder) as stator:
            stator.wait_for("registered")
            registration = status_of(stator)["registration"]
            assert registration.pop("confirmed") == pytest.approx(time.time(), abs=60)
            ((_, registered),) = consul.services().items()
            assert registration == {
                "state": "registered",
                "registrar": "consul",
                "name": "shop",
                "id": registered["ID"],
                "address": registered["Address"],
                "port": registered["Port"],
            }
            consul.kill()
            lost = eventually(lambda: status_of(stator)["registration"]["state"] != "registered", within=20)
            assert lost
            assert b'<span class="state bad">not registered</span>' in stator.get("/").body


def test_the_latest_of_several_processes_counts_and_what_is_over_the_limit_is_unknown() -> None:
    processes = ServiceProcesses(workers=2)
    names = [f"collector{nth:03}" for nth in range(MOST + 1)]
    collections = LastCollections(processes, names)
    assert set(collections.latest().values()) == {None}
    first, later = Collection(1.0, True, 0.5, 7), Collection(2.0, False, 0.25, 0)
    processes.register("worker", 1)
    collections.report({names[0]: later})
    processes.register("worker", 2)
    LastCollections(processes, names).report({names[0]: first, names[1]: first, names[MOST]: first})
    latest = collections.latest()
    assert (latest[names[0]], latest[names[1]]) == (later, first)
    assert names[MOST] not in latest


def test_a_replaced_workers_collections_are_not_forgotten() -> None:
    processes = ServiceProcesses(workers=2)
    names = ["runtime", "wave"]
    runtime, wave = Collection(1.0, True, 0.5, 7), Collection(2.0, True, 0.25, 3)
    processes.register("worker", 1)
    LastCollections(processes, names).report({"runtime": runtime})
    processes.register("worker", 1)
    successor = LastCollections(processes, names)
    successor.report({"wave": wave})
    assert successor.latest() == {"runtime": runtime, "wave": wave}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.size(0), "0 B"),
        (units.size(1023), "1023 B"),
        (units.size(12.3 * 1024**2), "12.3 MiB"),
        (units.size(1024**2 - 1), "1.0 MiB"),
        (units.duration(0), "0 s"),
        (units.duration(31.1e-6), "31.1 µs"),
        (units.duration(0.34), "340 ms"),
        (units.duration(1.25), "1.25 s"),
        (units.duration(200), "3 min 20 s"),
        (units.duration(3600), "1 h"),
        (units.duration(90061), "1 d 1 h"),
        (units.count(12345), "12,345"),
        (units.moment(1767322800.9), "2026-01-02 03:00:00 UTC"),
    ],
)
def test_numbers_are_written_as_people_read_them(text: str, expected: str) -> None:
    assert text == expected


def test_a_wrapped_programs_processes_are_there_too(tmp_path: Path) -> None:
    with Program({}, tmp_path, args=["--", "sh", "-c", "sleep 60 & wait"]) as stator:
        stator.wait_for("program started")
        eventually(lambda: roles_of(stator).count("program") == 2)
        assert sorted(roles_of(stator)) == ["arbiter", "main", "program", "program", "worker"]


def roles_of(stator: Program) -> list[str]:
    return [each["role"] for each in status_of(stator)["processes"]]
