"""The program with users, tokens and networks, as its clients and its log see it."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import bcrypt
import pytest

from tests.credentials import (
    HASH,
    OTHER_HASH,
    OTHER_PASSWORD,
    OTHER_TOKEN,
    PASSWORD,
    TOKEN,
    USERS,
    basic,
    bearer,
    settings,
)
from tests.credentials import write_private as write
from tests.integration.programs import Consul
from tests.program import ROOT, Answer, Program, eventually

FAILING = {"STTR_MONITOR_CHECKS": "db=tcp://127.0.0.1:1", "STTR_COLLECTORS": "wave"}


def ask(
    program: Program, path: str, headers: dict[str, str], address: str = "127.0.0.1", method: str = "GET"
) -> Answer:
    """Asks from an address of this host."""
    connection = HTTPConnection("127.0.0.1", program.port, timeout=20, source_address=(address, 0))
    with closing(connection):
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with Program({**FAILING, **settings(tmp_path)}, tmp_path) as running:
        yield running


def test_refusals_say_what_is_expected(program: Program) -> None:
    answer = program.get("/metrics")
    assert (answer.status, answer.body) == (401, b'{"error":"unauthorized"}')
    connection = program.connect()
    with closing(connection):
        connection.request("GET", "/config")
        response = connection.getresponse()
        assert response.headers.get_all("www-authenticate") == [
            'Basic realm="stator", charset="UTF-8"',
            'Bearer realm="stator"',
        ]
        assert response.read() == b'{"error":"unauthorized"}'
        # The same connection serves on.
        connection.request("HEAD", "/metrics")
        assert connection.getresponse().read() == b""
        connection.request("GET", "/config", headers=bearer())
        response = connection.getresponse()
        assert (response.status, response.headers["cache-control"]) == (200, "no-store")
        shown = json.loads(response.read())["config"]["server"]["access"]
    assert shown["users_file"].endswith("/users")


def test_open_paths_show_details_to_those_with_credentials_alone(program: Program) -> None:
    for headers in ({}, basic("prom", "wrong")):
        answer = program.get("/monitor", headers)
        assert (answer.status, answer.body) == (503, b'{"status":"failing"}')
    for headers in (basic(), bearer()):
        assert json.loads(program.get("/monitor/ready", headers).body)["checks"].keys() == {"db"}
    assert program.get("/monitor/live").body == b'{"status":"ok"}'


def test_no_line_of_the_log_has_credentials(program: Program) -> None:
    for headers in (basic(), basic("prom", "geheim1"), bearer(), bearer("geheim2"), {"Authorization": "geheim3"}):
        program.get("/metrics", headers)
        program.get("/config", {**headers, "X-Stator-Probe": "geheim4"})
    assert program.stop() == 0
    for secret in (HASH, PASSWORD, TOKEN, "geheim", *(value.split()[1] for value in basic().values())):
        assert secret not in program.output + program.errors


def test_files_that_are_wrong_stop_the_start_with_a_line_each(tmp_path: Path) -> None:
    variables = settings(tmp_path)
    write(tmp_path / "users", f"prom:{HASH}\ngeheim\n")
    write(tmp_path / "tokens", "geheim geheim\n")
    with Program(variables, tmp_path) as program:
        assert program.ended() == 2
        assert [line.partition(": expected ")[2] for line in program.errors.splitlines()] == [
            "name:hash in line 2, with a hash of bcrypt as htpasswd -B writes it",
            "one token in line 1, of ASCII without spaces",
        ]
        assert "geheim" not in program.errors


def test_a_bcrypt_that_can_not_be_loaded_stops_the_start_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "bcrypt.py").write_text("raise ImportError('libgcc_s.so.1: cannot open shared object file')")
    with Program({**settings(tmp_path), "PYTHONPATH": f"{tmp_path}:{ROOT}"}, tmp_path) as program:
        assert program.ended() == 1
        reasons = [line["reason"] for line in program.lines("can't start")]
    assert reasons == ["passwords can't be checked: libgcc_s.so.1: cannot open shared object file"]


def test_what_checks_passwords_is_loaded_only_where_there_are_users(tmp_path: Path) -> None:
    for variables, is_loaded in ((settings(tmp_path), True), ({"STTR_SERVER_ALLOW": "127.0.0.1"}, False)):
        with Program(variables, tmp_path) as program:
            program.wait_for("ready")
            maps = [Path(f"/proc/{each.pid}/maps").read_text() for each in program.workers]
        assert [("_bcrypt" in text) for text in maps] == [is_loaded]


def test_a_wrong_file_later_is_a_line_and_the_old_users_stay(program: Program, tmp_path: Path) -> None:
    assert program.get("/metrics", basic()).status == 200
    write(tmp_path / "users", "geheim\n")

    def line() -> bool:
        assert program.get("/metrics", basic()).status == 200
        return bool(program.lines(logger="stator.settings.watched"))

    eventually(line)
    (warning,) = program.lines(logger="stator.settings.watched")
    assert warning["level"] == "warning"
    assert warning["msg"].endswith("expected name:hash in line 1, with a hash of bcrypt as htpasswd -B writes it")
    assert "geheim" not in program.output


def test_what_files_are_readable_for_others_and_what_tokens_are_short_is_warned_of(tmp_path: Path) -> None:
    variables = settings(tmp_path)
    write(tmp_path / "tokens", "short\n").chmod(0o644)
    with Program(variables, tmp_path) as program:
        program.wait_for("ready")
        warnings = [line["msg"] for line in program.lines(level="warning")]
    assert len(warnings) == 2
    command = [sys.executable, "-m", "stator", "--check"]
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"stator: warning: {warning}" for warning in warnings]


def test_networks_are_refused_in_front_of_all_else_and_the_log_has_it(tmp_path: Path) -> None:
    variables = {"STTR_SERVER_ALLOW": "127.0.0.1,127.1.0.0/16", **FAILING}
    with Program(variables, tmp_path) as program:
        answer = ask(program, "/monitor", {}, "127.0.0.2")
        assert (answer.status, answer.body) == (403, b'{"error":"forbidden"}')
        assert [ask(program, "/metrics", {}, each).status for each in ("127.0.0.1", "127.1.2.3")] == [200, 200]
        # Nobody needs credentials here, so that all is shown.
        assert b"db" in ask(program, "/monitor", {}, "127.1.2.3").body
        assert ask(program, "/x", {}, "127.0.0.2").status == 403
        (line,) = program.lines("refused an address that STTR_SERVER_ALLOW does not name")
        assert (line["level"], line["remote_ip"]) == ("warning", "127.0.0.2")
        assert len(program.lines("sending response", status=403)) == 2


def test_addresses_are_those_that_trusted_proxies_name(tmp_path: Path) -> None:
    variables = {"STTR_SERVER_ALLOW": "198.51.100.0/24", "STTR_SERVER_TRUSTEDPROXIES": "127.0.0.2"}
    with Program(variables, tmp_path) as program:
        forwarded = {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}
        assert ask(program, "/metrics", forwarded, "127.0.0.2").status == 200
        assert ask(program, "/metrics", forwarded, "127.0.0.3").status == 403
        assert ask(program, "/metrics", {"Forwarded": "for=198.51.100.8"}, "127.0.0.2").status == 200
        assert ask(program, "/metrics", {**forwarded, "Forwarded": "for=192.0.2.1"}, "127.0.0.2").status == 403
        addresses = [line["remote_ip"] for line in program.lines("received request", level="info")]
    assert addresses == ["198.51.100.7", "127.0.0.3", "198.51.100.8", "unknown"]


def test_endpoints_that_are_not_chosen_are_not_found_but_the_start_and_the_watchdog_go_on(tmp_path: Path) -> None:
    with Program({"STTR_SERVER_ENDPOINTS": "metrics", "STTR_SERVER_ALLOW": "127.0.0.9"}, tmp_path) as program:
        assert [ask(program, path, {}, "127.0.0.9").status for path in ("/metrics", "/config", "/monitor", "/")] == [
            *(200, 404, 404, 404)
        ]
        assert ask(program, "/metrics", {}).status == 403


@pytest.mark.parametrize("check", ["http", "ttl"])
def test_it_is_registered_and_healthy_where_even_the_monitor_needs_credentials(tmp_path: Path, check: str) -> None:
    variables = {**settings(tmp_path), "STTR_SERVER_OPENPATHS": "", "STTR_CONSUL_CHECK": check}
    if check == "http":
        variables["STTR_CONSUL_CHECKHEADERS"] = f"Authorization,Bearer {TOKEN}"
    variables |= {"STTR_ROSTER_SERVICE_IPADDRESS": "127.0.0.1", "STTR_CONSUL_CHECKINTERVAL": "1s"}
    variables |= {"STTR_LOGGER_LEVEL": "debug", "STTR_LOGGER_MAXLEN": "0"}
    folder = tmp_path / "consul"
    folder.mkdir()
    with Consul(folder) as consul, Program({**variables, "STTR_CLIENT_BASEURI": consul.url}, tmp_path) as program:
        program.wait_for("registered")
        eventually(lambda: [health.status for health in consul.health("stator")] == ["passing"], within=20)
        assert program.get("/monitor").status == 401
        assert program.stop() == 0
        assert not program.lines(level="error")
        assert not program.lines("wrong credentials")
        assert TOKEN not in program.output
        keys = {
            key for line in program.lines() for key in json.loads(line.get("headers", "{}")).get("X-Stator-Probe", [])
        }
        assert keys == {"--redacted--"}


def test_files_are_replaced_under_load_without_a_failed_scrape(tmp_path: Path) -> None:
    variables = {**settings(tmp_path), "STTR_COLLECTORS": "wave", "STTR_SERVER_WORKERS": "2"}
    hashes = [bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode() for _ in range(20)]
    with Program(variables, tmp_path) as program:
        port, statuses, is_over = program.port, list[int](), threading.Event()

        def scrape(headers: dict[str, str]) -> None:
            with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                while not is_over.is_set():
                    connection.request("GET", "/metrics", headers=headers)
                    response = connection.getresponse()
                    response.read()
                    statuses.append(response.status)

        threads = [threading.Thread(target=scrape, args=[each]) for each in (basic(), basic(), bearer(), bearer())]
        for thread in threads:
            thread.start()
        for nth, hashed in enumerate(hashes):
            write(tmp_path / "users", f"prom:{hashed}\nnew{nth}:{OTHER_HASH}\n")
            write(tmp_path / "tokens", f"{OTHER_TOKEN}{nth}\n{TOKEN}\n")
            before = len(statuses)
            eventually(lambda before=before: len(statuses) > before + 40)  # type: ignore[misc]
        # From an address of its own each time: one that fails too often has to wait, whoever else asks from it.
        addresses, newest = iter(range(1, 255)), basic("new19", OTHER_PASSWORD)

        def is_known() -> bool:
            address = f"127.0.9.{next(addresses)}"
            return {ask(program, "/metrics", newest, address).status for _ in range(8)} == {200}

        eventually(is_known)
        is_over.set()
        for thread in threads:
            thread.join(20)
        assert set(statuses) == {200}


def test_a_guesser_is_stopped_and_fills_no_log_while_others_scrape(tmp_path: Path) -> None:
    variables = {**settings(tmp_path), "STTR_COLLECTORS": "wave"}
    with Program(variables, tmp_path) as program:
        port = program.port
        assert ask(program, "/metrics", basic(), "127.0.0.3").status == 200

        def guess(part: range) -> list[int]:
            connection, found = HTTPConnection("127.0.0.1", port, timeout=20, source_address=("127.0.0.2", 0)), []
            with closing(connection):
                for n in part:
                    connection.request("GET", "/metrics", headers=basic("prom", f"guess {n}"))
                    response = connection.getresponse()
                    response.read()
                    found.append(response.status)
            return found

        with ThreadPoolExecutor(5) as guessers:
            guesses = [guessers.submit(guess, range(n * 400, (n + 1) * 400)) for n in range(4)]
            scrapes = [ask(program, "/metrics", basic(), "127.0.0.3").status for _ in range(50)]
            statuses = [status for each in guesses for status in each.result()]
        assert set(scrapes) == {200}
        assert set(statuses) == {401, 429}
        # Five in ten seconds, however long it took.
        assert statuses.count(401) <= 15
        assert statuses.count(429) > 1500
        of_guesser = [line for line in program.lines() if line.get("remote_ip") == "127.0.0.2"]
        assert [line["msg"] for line in of_guesser] == ["wrong credentials", "received request"]
        assert len(program.lines("sending response", level="info")) == 1 + len(scrapes) + 1


@pytest.mark.parametrize("mode", ["line", "off"])
def test_requests_that_are_not_known_to_be_right_are_logged_as_others(tmp_path: Path, mode: str) -> None:
    with Program({**settings(tmp_path), "STTR_LOGGER_ACCESS": mode}, tmp_path) as program:
        assert [program.get("/metrics", each).status for each in (basic(), basic(), {}, bearer("wrong"))] == [
            *(200, 200, 401, 401)
        ]
        statuses = [line["status"] for line in program.lines("answered request", level="info")]
    assert statuses == ([200, 200, 401, 401] if mode == "line" else [])


def test_the_event_loop_goes_on_while_a_password_is_hashed(tmp_path: Path) -> None:
    variables = settings(tmp_path)
    slow = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(13)).decode()
    write(tmp_path / "users", f"{USERS}slow:{slow}\n")
    with Program(variables, tmp_path) as program, ThreadPoolExecutor(1) as other:
        port = program.port
        hashing = other.submit(program.get, "/metrics", basic("slow"))
        answered = 0
        while not hashing.done():
            with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
                connection.request("GET", "/monitor/live")
                answered += connection.getresponse().status == 200
        assert hashing.result().status == 200
        assert answered > 5
