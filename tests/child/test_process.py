"""Programs that Stator runs: how they start and end, what reaches them, and what is left of them."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests.child.conftest import Wraps
from tests.fakes import Agent
from tests.program import Program, eventually

SERVER = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    return [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def child_of(program: Program) -> int:
    return int(program.wait_for("program started")["pid"])


@pytest.mark.parametrize(
    ("script", "status", "fields"),
    [
        ("exit 0", 0, {"status": 0, "level": "info"}),
        ("exit 3", 3, {"status": 3, "level": "warning"}),
        ("kill -SEGV $$", 139, {"signal": "SIGSEGV", "level": "warning"}),
        ("kill -KILL $$", 137, {"signal": "SIGKILL", "level": "warning"}),
    ],
)
def test_its_exit_status_is_ours(wraps: Wraps, script: str, status: int, fields: Mapping[str, object]) -> None:
    program = wraps(["sh", "-c", script])
    assert program.ended() == status
    assert program.lines("program ended", program="sh", **fields)
    assert program.lines()[-1]["msg"] == "stopped"
    assert not program.processes()


@pytest.mark.parametrize(
    ("command", "status"), [("/none/such", 127), ("/etc/hostname", 126), ("none-such-program", 127)]
)
def test_one_that_cannot_be_started_is_reported_and_not_registered(
    wraps: Wraps, tmp_path: Path, command: str, status: int
) -> None:
    with Agent() as consul:
        program = wraps([command], {"STTR_CLIENT_BASEURI": consul.uri, "STTR_ROSTER_SERVICE_PORT": "80"})
        assert program.ended() == status
        assert consul.requests == []
    (line,) = program.lines("can't start")
    assert line["reason"].startswith(f"{command} can't be started: ")


def test_its_input_and_output_are_its_own_byte_for_byte(wraps: Wraps) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256))); sys.stderr.write('to stderr\\n')"
    program = wraps([sys.executable, "-c", code])
    assert program.ended() == 0
    assert program.stdout.read_bytes() == bytes(range(256))
    assert "to stderr\n" in program.errors


def test_it_gets_our_environment_without_secrets(wraps: Wraps) -> None:
    env = {
        "STTR_CONSUL_TOKEN": "hunter2",
        "STTR_CLIENT_HEADERS": "X-Key,hunter2",
        "STTR_LOGGER_LEVEL": "info",
        "SHOP": "open",
    }
    program = wraps([sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"], env)
    assert program.ended() == 0
    environ = json.loads(program.output)
    assert {name: environ.get(name) for name in env} == {
        "STTR_CONSUL_TOKEN": None,
        "STTR_CLIENT_HEADERS": None,
        "STTR_LOGGER_LEVEL": "info",
        "SHOP": "open",
    }


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2", "WINCH", "ALRM", "RTMIN"])
def test_signals_that_do_not_stop_us_are_its(wraps: Wraps, tmp_path: Path, name: str) -> None:
    script = f'trap "echo got it; exit 5" {name}; echo ready; while :; do sleep 0.05; done'
    program = wraps(["bash", "-c", script])
    eventually(lambda: "ready" in program.output)
    program.send(signal.Signals[f"SIG{name}"])
    assert program.ended() == 5
    assert "got it" in program.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_stop_becomes_its_own(wraps: Wraps, number: signal.Signals) -> None:
    script = 'trap "echo bye; exit 0" USR1; echo ready; while :; do sleep 0.05; done'
    program = wraps(["bash", "-c", script], {"STTR_CHILD_STOPSIGNAL": "USR1"})
    eventually(lambda: "ready" in program.output)
    program.wait_for("program started")
    assert program.stop(number) == 0
    assert "bye" in program.output


def test_one_that_does_not_stop_is_killed_with_all_that_it_has_started(wraps: Wraps) -> None:
    script = 'trap "" TERM; sleep 600 & (setsid sleep 600 &) ; echo ready; while :; do sleep 1; done'
    program = wraps(["bash", "-c", script], {"STTR_CHILD_STOPTIMEOUT": "300ms"})
    eventually(lambda: "ready" in program.output)
    tree = family(program.pid)
    assert program.stop() == 137
    assert program.lines("program does not end, killing it", level="warning")
    eventually(lambda: not any(map(is_running, tree)))


def test_one_that_stands_still_can_be_stopped(wraps: Wraps) -> None:
    program = wraps(["sleep", "600"])
    os.kill(child_of(program), signal.SIGSTOP)
    assert program.stop() == 143


def test_what_it_leaves_in_the_background_is_killed_when_it_ends(wraps: Wraps) -> None:
    program = wraps(["bash", "-c", "(setsid sleep 600 &); sleep 0.5"])
    child_of(program)
    eventually(lambda: len(program.processes()) > 2)
    tree = family(program.pid)
    assert program.ended() == 0
    (line,) = program.lines("program left processes behind, killing them", level="warning")
    assert line["processes"] == 1
    eventually(lambda: not any(map(is_running, tree)))


def test_a_second_signal_ends_both_at_once(wraps: Wraps) -> None:
    program = wraps(["bash", "-c", 'trap "" TERM; echo ready; while :; do sleep 1; done'])
    eventually(lambda: "ready" in program.output)
    tree = family(program.pid)
    program.wait_for("program started")
    program.send(signal.SIGTERM)
    program.wait_for("shutting down")
    time.sleep(0.2)  # what comes quicker counts as one signal
    assert program.stop(signal.SIGTERM) == 143
    eventually(lambda: not any(map(is_running, tree)))


def test_it_ends_if_we_are_killed(wraps: Wraps) -> None:
    program = wraps(["sleep", "600"])
    child = child_of(program)
    tree = family(program.pid)
    program.send(signal.SIGKILL)
    program.ended()
    eventually(lambda: not is_running(child))
    eventually(lambda: not any(map(is_running, tree)))


def test_it_ends_if_our_server_does(wraps: Wraps) -> None:
    program = wraps(["sleep", "600"])
    child = child_of(program)
    program.arbiter.kill()
    assert program.ended() == 1
    assert program.lines("http service ended by itself")
    assert not is_running(child)


def test_one_that_writes_without_end_while_nobody_reads_can_be_stopped(tmp_path: Path) -> None:
    read, write = os.pipe()
    with Program({}, tmp_path, args=("--", "yes"), stdout=write) as program:
        os.close(write)
        program.wait_for("program started")
        assert program.get("/monitor").status == 200
        assert program.stop() == 143
    os.close(read)


def test_one_that_closes_its_output_goes_on(wraps: Wraps) -> None:
    program = wraps(["bash", "-c", "exec >&- 2>&-; sleep 600"])
    child_of(program)
    assert program.get("/monitor").status == 200
    assert program.stop() == 143


def test_it_reaps_what_the_program_has_left_to_it(wraps: Wraps) -> None:
    program = wraps(["bash", "-c", "for i in 1 2 3 4 5; do (sleep 0.5 & echo $!); done; sleep 600"])
    eventually(lambda: len(program.output.split()) == 5)
    orphans = [*map(int, program.output.split())]
    eventually(lambda: not any(map(psutil.pid_exists, orphans)))
    assert program.stop() == 143


class TestRegistration:
    """What is registered of it, and when."""

    @pytest.fixture
    def consul(self) -> Iterator[Agent]:
        with Agent() as agent:
            yield agent

    def env(self, consul: Agent, port: int, **more: str) -> dict[str, str]:
        return {
            "STTR_CLIENT_BASEURI": consul.uri,
            "STTR_ROSTER_SERVICE_PORT": str(port),
            "STTR_ROSTER_SERVICE_ID": "1",
            "STTR_CHILD_STARTTIMEOUT": "5s",
            **more,
        }

    def test_its_port_is_registered_once_it_accepts_and_ours_is_in_the_metadata(
        self, wraps: Wraps, consul: Agent
    ) -> None:
        port = free_port()
        code = f"import time; time.sleep(1)\n{SERVER}"
        program = wraps([sys.executable, "-c", code, str(port)], self.env(consul, port))
        program.wait_for("program started")
        assert not consul.services
        assert program.get("/monitor").status == 503
        eventually(lambda: consul.services)
        (service,) = consul.services.values()
        assert (service["Port"], service["Meta"]) == (port, {"metrics_port": str(program.port)})
        assert service["Check"]["HTTP"].endswith(f":{program.port}/monitor")
        answer = program.get("/monitor")
        assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok", "checks": {"child": "ok"}})
        assert program.stop() == 143
        assert not consul.services

    def test_a_health_check_says_when_it_is_ready(self, wraps: Wraps, consul: Agent) -> None:
        with Agent(503) as service:
            program = wraps(["sleep", "600"], self.env(consul, 80, STTR_CHILD_HEALTH=f"{service.uri}/ready"))
            program.wait_for("program started")
            eventually(lambda: len(service.requests) > 3)
            assert not consul.services
            service.status = 200
            eventually(lambda: consul.services)
            service.status = 500
            assert program.get("/monitor").status == 503
            program.wait_for("health check fails", check="child")
            service.status = 200
            eventually(lambda: program.get("/monitor").status == 200)
            program.wait_for("health check passes again", check="child")
            assert program.stop() == 143

    def test_one_that_is_not_ready_in_time_is_stopped(self, wraps: Wraps, consul: Agent) -> None:
        program = wraps(["sleep", "600"], self.env(consul, free_port(), STTR_CHILD_STARTTIMEOUT="300ms"))
        assert program.ended() == 1
        assert program.lines("can't start", reason="the program was not healthy within 0.3 s")
        assert consul.asked("/v1/agent/service/register") == []
        assert not program.processes()

    def test_it_is_unregistered_at_once_when_it_ends(self, wraps: Wraps, consul: Agent) -> None:
        port = free_port()
        program = wraps([sys.executable, "-c", SERVER, str(port)], self.env(consul, port, STTR_ROSTER_DRAIN="1m"))
        eventually(lambda: consul.services)
        os.kill(child_of(program), signal.SIGKILL)
        assert program.ended() == 137
        assert not consul.services

    def test_without_its_port_nothing_starts(self, wraps: Wraps, consul: Agent) -> None:
        program = wraps(["touch", "started"], {"STTR_CLIENT_BASEURI": consul.uri})
        assert program.ended() == 2
        expected = "expected the port of the program behind --, which is to be registered"
        assert program.errors == f"stator: STTR_ROSTER_SERVICE_PORT: {expected}\n"
        assert not (program.stdout.parent / "started").exists()


def test_without_a_program_behind_the_dashes_nothing_starts(wraps: Wraps) -> None:
    program = wraps([])
    assert program.ended() == 2
    assert program.errors == "stator: no program behind --; -h shows what there is\n"


@pytest.mark.parametrize(
    ("name", "value"), [("STOPSIGNAL", "FOO"), ("HEALTH", "http://me:hunter2@x/"), ("STARTTIMEOUT", "0s")]
)
def test_settings_that_cannot_be_are_refused(wraps: Wraps, name: str, value: str) -> None:
    program = wraps(["true"], {f"STTR_CHILD_{name}": value})
    assert program.ended() == 2
    assert program.errors.startswith(f"stator: STTR_CHILD_{name}")
    assert "hunter2" not in program.errors


def test_an_embedded_registration_does_nothing_inside(wraps: Wraps) -> None:
    code = (
        "import stator\n"
        "registration = stator.registered(8000, environ={'STTR_CLIENT_BASEURI': 'http://127.0.0.1:9'})\n"
        "registration.start()\n"
        "print('went on')\n"
    )
    program = wraps([sys.executable, "-c", code])
    assert program.ended() == 0
    assert program.output == "went on\n"
    assert "not registering: this program is wrapped, and registered by what wraps it" in program.errors
