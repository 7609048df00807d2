"""What the program does where its surroundings fail: it says so once and clearly, and goes on where it can."""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from resource import RLIMIT_NOFILE, prlimit
from signal import SIGTERM

import pytest

from tests.fakes import Agent, MisbehavingServer, hangs, says
from tests.integration.programs import free_ports
from tests.program import MODULE, Line, Program, cannot, eventually
from tests.server.conftest import Starts

SOON = 3.0


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


def failure(program: Program) -> str:
    """The only line of an error so far; its reason."""
    program.wait_for("failed to register, trying again")
    (line,) = program.lines(level="error")
    reason: str = line["reason"]
    assert "\n" not in reason
    return reason


def ends_well(program: Program, within: float = SOON) -> None:
    start = time.monotonic()
    assert program.get("/monitor").status == 200
    assert program.stop(SIGTERM, within=within) == 0
    assert time.monotonic() - start < within
    assert program.processes() == []
    assert program.errors == ""


# The discovery service


def test_without_a_discovery_service_it_runs_and_says_so(starts: Starts) -> None:
    program = starts()
    assert program.wait_for("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)")
    ends_well(program)


def test_a_discovery_service_that_refuses_is_told_once(starts: Starts) -> None:
    (port,) = free_ports(1)
    program = starts({"STTR_CLIENT_BASEURI": f"http://127.0.0.1:{port}"})
    assert failure(program) == f"PUT http://127.0.0.1:{port}/v1/agent/service/register: Connection refused"
    ends_well(program)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not an HTTP answer: 'SSH-2.0-OpenSSH_9.2p1"),
        (b"HTTP/1.1 302 Found\r\nLocation: /ui/\r\nContent-Length: 0\r\n\r\n", "answered with status 302"),
    ],
)
def test_a_discovery_service_that_answers_nonsense_is_told_once(starts: Starts, answer: bytes, reason: str) -> None:
    with MisbehavingServer(says(answer)) as oddity:
        program = starts({"STTR_CLIENT_BASEURI": oddity.uri})
        assert reason in failure(program)
        ends_well(program)


def test_a_discovery_service_that_fails_is_asked_again_but_not_without_a_pause(starts: Starts) -> None:
    with Agent(500, b"No cluster leader") as agent:
        program = starts({"STTR_CLIENT_BASEURI": agent.uri, "STTR_ROSTER_RETRYMAX": "200ms"})
        assert "answered with status 500: No cluster leader" in failure(program)
        first = time.monotonic()
        eventually(lambda: len(agent.requests) > 8)
        # At most one in 5 ms, and one in 100 on average
        assert time.monotonic() - first > 0.1
        assert failure(program)
        agent.status, agent.body = 200, b""
        assert program.wait_for("registered")["failures"] >= 8
        ends_well(program)
        assert len(agent.asked("/v1/agent/service/deregister/")) == 1


def test_a_discovery_service_that_hangs_does_not_hang_the_service(starts: Starts) -> None:
    with MisbehavingServer(hangs) as oddity:
        program = starts({"STTR_CLIENT_BASEURI": oddity.uri, "STTR_CLIENT_TIMEOUTSHORT": "200ms"})
        assert failure(program) == f"PUT {oddity.uri}/v1/agent/service/register: timed out"
        assert oddity.connections < 10
        ends_well(program)


def test_a_discovery_service_that_hangs_does_not_hang_the_end(starts: Starts) -> None:
    with MisbehavingServer(hangs) as oddity:
        program = starts({"STTR_CLIENT_BASEURI": oddity.uri})
        program.wait_for("sending request")
        ends_well(program, within=5 + SOON)
        assert program.lines("failed to unregister", level="error")


# Files


def test_the_file_registrar_writes_its_file_and_takes_it_away(starts: Starts, tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    env = {"STTR_ROSTER_REGISTRAR": "file", "STTR_FILE_PATH": str(path), "STTR_ROSTER_SERVICE_IPADDRESS": "127.0.0.1"}
    program = starts(env)
    program.wait_for("registered")
    (target,) = json.loads(path.read_text())
    assert target["targets"] == [f"127.0.0.1:{program.port}"]
    ends_well(program)
    assert list(tmp_path.glob(".*")) == []
    assert not path.exists()


def test_a_file_that_can_no_longer_be_written_is_told_and_written_when_it_can(starts: Starts, tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    folder.mkdir()
    path = folder / "targets.json"
    env = {"STTR_ROSTER_REGISTRAR": "file", "STTR_FILE_PATH": str(path), "STTR_ROSTER_INTERVAL": "50ms"}
    program = starts(env)
    program.wait_for("registered")
    folder.rename(tmp_path / "elsewhere")
    assert failure(program) == f"can't write {path}: No such file or directory"
    folder.mkdir()
    eventually(path.exists)
    ends_well(program)


# Resources


PLAIN = {
    "plain": """
from stator.points import Point, PointsAt

class Plain:
    def collect(self, now):
        return PointsAt("plain", now, points=[Point("thing", "", 1)])
"""
}


# As where no more threads may be had, for as long as there is a file.
THREADLESS = """
import pathlib, threading
start = threading.Thread.start

def start_or_not(thread):
    if pathlib.Path("refuse").exists():
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = start_or_not
"""


@contextmanager
def limited(pid: int, resource: int, most: int) -> Iterator[None]:
    """A process may have no more than so much of something for a while."""
    _, hard = before = prlimit(pid, resource)
    prlimit(pid, resource, (most, hard))
    yield
    prlimit(pid, resource, before)


def test_a_worker_that_can_not_be_replaced_yet_takes_down_nothing(starts: Starts, agent: Agent) -> None:
    program = starts({"STTR_CLIENT_BASEURI": agent.uri, "STTR_SERVER_WORKERS": "2"})
    program.wait_for("registered")
    eventually(lambda: len(program.workers) == 2)
    with limited(program.arbiter.pid, RLIMIT_NOFILE, 3):
        program.workers[0].kill()
        (told,) = eventually(lambda: [line for line in program.lines() if "can't start a worker" in line["msg"]])
        assert "Too many open files" in told["msg"]
        assert program.get("/monitor").status == 200
    eventually(lambda: len(program.workers) == 2)
    assert not agent.asked("/v1/agent/service/deregister/")
    ends_well(program)


def test_more_connections_than_there_is_room_for_cost_few_lines_and_wait(starts: Starts) -> None:
    program = starts()
    program.wait_for("ready")
    (worker,) = program.workers
    with ExitStack() as connections:
        with limited(worker.pid, RLIMIT_NOFILE, worker.num_fds() + 5):
            for _ in range(30):
                connections.enter_context(program.dial())
            asking = connections.enter_context(program.dial())
            asking.sendall(b"GET /monitor HTTP/1.1\r\nHost: stator\r\n\r\n")
            eventually(lambda: len(no_room(program)) > 2)
        assert asking.recv(1000).startswith(b"HTTP/1.1 200 OK")
    assert len(no_room(program)) < 20
    ends_well(program)


def no_room(program: Program) -> list[Line]:
    return [
        line for line in program.lines() if line.get("error", {}).get("message") == "[Errno 24] Too many open files"
    ]


def test_where_no_thread_can_be_started_each_scraper_is_told_and_later_ones_are_answered(starts: Starts) -> None:
    program = starts({"STTR_COLLECTORS": "plain:Plain"}, modules={"plain": PLAIN["plain"] + THREADLESS})
    refuse = program.stdout.parent / "refuse"
    refuse.touch()
    program.wait_for("ready")
    assert [program.get("/metrics").status for _ in range(4)] == [500] * 4
    assert program.get("/monitor").status == 200
    refuse.unlink()
    assert b"plain_thing 1" in program.get("/metrics").body
    ends_well(program)


WITHOUT_PROC = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount -t tmpfs no /proc && exec "$@"',
    "sh",
)


def test_without_proc_it_serves_and_tells_which_collectors_can_not_do_without(starts: Starts) -> None:
    tried = subprocess.run([*WITHOUT_PROC, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        cannot(f"/proc can't be taken away here: {tried.stderr.strip()}")
    program = starts({"STTR_COLLECTORS": "runtime,process,wave"}, command=(*WITHOUT_PROC, *MODULE))
    program.wait_for("ready")
    body = program.get("/metrics").body.decode()
    assert "wave_sine" in body
    assert 'stator_collector_success{collector="wave"} 1' in body
    for name in ("runtime", "process"):
        assert f'stator_collector_success{{collector="{name}"}} 0' in body
        error = program.wait_for("failed to collect", collector=name)["error"]
        assert "No such file or directory: '/proc/" in error["message"]
    ends_well(program)


READ_ONLY = (
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    # The working folder is the last one in which a temporary file would be created.
    """
    for folder in /dev/shm /tmp /var/tmp /usr/tmp "$PWD"; do
        test ! -d $folder || { mount --bind $folder $folder && mount -o remount,bind,ro $folder; } || exit 1
    done
    cd "$PWD" && exec "$@"
    """,
    "sh",
)


def test_without_a_writable_folder_it_says_in_one_line_what_to_set(starts: Starts, tmp_path: Path) -> None:
    tried = subprocess.run([*READ_ONLY, "true"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if tried.returncode:
        cannot(f"nothing can be made read-only here: {tried.stderr.strip()}")
    program = starts(command=(*READ_ONLY, *MODULE))
    assert program.ended() == 1
    (line,) = program.lines(level="error")
    assert line["msg"] == "can't start"
    assert line["reason"].startswith("no folder for the workers' heartbeat files: set TMPDIR to a writable one")
    assert program.errors == ""


@pytest.mark.parametrize("args", [(), ("--check",), ("-c",)])
def test_in_a_folder_that_is_gone_it_says_so_in_one_line(starts: Starts, tmp_path: Path, args: tuple[str, ...]) -> None:
    (tmp_path / "gone").mkdir()
    command = ("sh", "-c", f'cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "$0" "$@"', *MODULE)
    program = starts(command=command, args=args)
    assert program.ended() == 1
    assert program.output == ""
    assert re.fullmatch(
        "stator: the working folder can't be used .*: start Stator in one that exists\n", program.errors
    )


REFUSING = """
import os, runpy, threading
def refuse(*_):
    raise {error}
{function} = refuse
runpy.run_module("stator", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("function", "error", "reason"),
    [
        ("os.fork", "BlockingIOError(11, 'Not now')", "can't start a process for the server: Not now"),
        ("threading.Thread.start", "RuntimeError('not now')", "can't stay registered: not now"),
    ],
)
def test_a_process_or_thread_that_the_system_refuses_at_the_start_is_told_in_one_line(
    starts: Starts, agent: Agent, function: str, error: str, reason: str
) -> None:
    command = (sys.executable, "-c", REFUSING.format(function=function, error=error))
    program = starts({"STTR_CLIENT_BASEURI": agent.uri}, command=command)
    assert program.ended() == 1
    assert [line["reason"] for line in program.lines(level="error")] == [reason]
    assert program.processes() == []
    assert program.errors == ""
    assert agent.requests == []


@pytest.mark.parametrize("is_refused", [True, False])
def test_an_agent_that_is_down_for_long_fills_no_log(starts: Starts, is_refused: bool) -> None:
    with Agent(500, b"down") as agent:
        uri = f"http://127.0.0.1:{free_ports(1)[0]}" if is_refused else agent.uri
        env = {"STTR_CLIENT_BASEURI": uri, "STTR_ROSTER_RETRYMAX": "10ms", "STTR_LOGGER_LEVEL": "debug"}
        program = starts(env)
        tries = "no response" if is_refused else "received response"
        eventually(lambda: len(program.lines(tries)) > 100, within=30)
        ends_well(program)
    # Without those of the start and the stop, and of the test's own look at /monitor.
    while_down = [line["msg"] for line in program.lines() if line["level"] != "debug"]
    while_down = while_down[while_down.index("ready") + 1 : while_down.index("shutting down")]
    assert while_down.count("failed to register, trying again") == 1
    assert len(while_down) <= 8


# Bad settings

BAD = {
    "STTR_ROSTER_SERVICE_MONITORSPEC": "http://%s/monitor",
    "STTR_COLLECTORS": "wave,missing:Collector,nonsense",
    "STTR_FILE_PATH": "/nonexistent/targets.json",
    "STTR_SERVER_PORT": "99999",
    "STTR_CLIENT_BASEURI": "localhost:8500",
    "STTR_CLIENT_HEADERS": "X-Api-Key",
}


def test_bad_settings_are_all_told_on_stderr_and_nothing_is_started(starts: Starts) -> None:
    program = starts({**BAD, "STTR_CLIENT_PASS": "hunter2"})
    assert program.ended() == 2
    assert program.output == ""
    told = program.errors.splitlines()
    for name in BAD:
        assert any(re.match(rf"stator: {name}\b.*: expected ", line) for line in told), name
    assert "missing:Collector can't be imported: ModuleNotFoundError" in program.errors
    assert "Traceback" not in program.errors
    assert "hunter2" not in program.errors


def test_a_collector_that_can_not_be_made_is_told_in_one_line(starts: Starts) -> None:
    broken = (
        "class Broken:\n    def __init__(self):\n        raise OSError('no device')\n    collect = None.__class__\n"
    )
    program = starts({"STTR_COLLECTORS": "broken:Broken"}, modules={"broken": broken})
    assert program.ended() == 1
    assert "broken:Broken can't be made: OSError: no device" in program.lines(level="error")[0]["reason"]
    assert "Traceback" not in program.errors


# Stdout


@pytest.fixture
def log_to_nobody() -> Iterator[int]:
    """The writing end of a small pipe that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield writer
    os.close(reader)
    os.close(writer)


def serves_and_ends(program: Program) -> None:
    eventually(lambda: is_serving(program))
    start = time.monotonic()
    for _ in range(50):
        assert program.get("/monitor").status == 200
    assert time.monotonic() - start < SOON
    ends_well(program)


def is_serving(program: Program) -> bool:
    try:
        return program.get("/monitor").status == 200
    except OSError:
        return False


def test_a_log_that_nobody_reads_does_not_delay_the_service(starts: Starts, log_to_nobody: int) -> None:
    serves_and_ends(starts({"STTR_SERVER_PORT": str(*free_ports(1))}, stdout=log_to_nobody))


def test_a_log_whose_reader_went_away_harms_nobody(starts: Starts) -> None:
    reader, writer = os.pipe()
    program = starts({"STTR_SERVER_PORT": str(*free_ports(1))}, stdout=writer)
    os.close(writer)
    with open(reader, "rb") as log:  # noqa: PTH123
        assert b"starting up" in log.readline()
    serves_and_ends(program)


def test_a_log_on_a_full_disk_harms_nobody(starts: Starts) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        serves_and_ends(starts({"STTR_SERVER_PORT": str(*free_ports(1))}, stdout=full.fileno()))


def test_a_closed_stdout_harms_neither_service_nor_discovery(starts: Starts, agent: Agent) -> None:
    closing = ("sh", "-c", 'exec "$0" "$@" >&- <&-', *MODULE)
    env = {"STTR_SERVER_PORT": str(*free_ports(1)), "STTR_CLIENT_BASEURI": agent.uri, "STTR_ROSTER_INTERVAL": "500ms"}
    program = starts(env, command=closing)
    eventually(lambda: len(agent.requests) > 3)
    serves_and_ends(program)
    assert {request.method for request in agent.requests} == {"GET", "PUT"}
    # For the registration, for the watch, and for leaving.
    assert agent.connections == 3
    assert agent.asked("/v1/agent/service/deregister/")


# Secrets


def test_no_secret_is_ever_shown(starts: Starts, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter1")
    env = {
        "STTR_LOGGER_LEVEL": "debug",
        "STTR_LOGGER_MAXLEN": "0",
        "STTR_CLIENT_USER": "me",
        "STTR_CLIENT_PASS": "hunter2",
        "STTR_CONSUL_TOKEN_FILE": str(token),
        "STTR_CLIENT_HEADERS": "Authorization,hunter3,X-Api-Key,hunter4",
        "STTR_CLIENT_REDACTHEADERS": "x-api-key",
    }
    with Agent(403, b"Permission denied", {"Set-Cookie": "hunter5"}) as agent:
        program = starts({**env, "STTR_CLIENT_BASEURI": agent.uri})
        failure(program)
        sent = agent.requests[0].headers
        assert [sent[name] for name in ("X-Consul-Token", "X-Api-Key")] == ["hunter1", "hunter4"]
        answer = program.get("/config", {"Authorization": "hunter6", "Cookie": "hunter7", "X-Api-Key": "hunter8"})
        ends_well(program)
    assert "hunter" not in program.output + program.errors + answer.body.decode()
    assert "bWU6aHVudGVyMg" not in program.output  # me:hunter2 in base64
    assert program.output.count("--redacted--") > 5
