"""Health checks that settings name, against real ports, servers, commands and functions."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

import stator
from stator.config import Environment
from stator.settings.declare import ConfigError, StartError
from stator.web.health import Check, CheckError, load_function
from tests.fakes import Agent
from tests.program import Program, eventually
from tests.web.asgi import Reply, call


def check(target: str, **env: str) -> Check:
    return checks(f"it={target}", **env)["it"]


def checks(value: str, **env: str) -> dict[str, Check]:
    config = Environment.of("STTR", {"STTR_MONITOR_CHECKS": value, **env}).decode()
    return config.monitor.build(config.public_environ)


def test_a_port_passes_while_something_accepts_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ping = check(f"tcp://127.0.0.1:{port}")
        ping()
    with pytest.raises(ConnectionRefusedError):
        ping()


@pytest.mark.parametrize("status", [200, 204, 299])
def test_a_url_passes_with_a_status_of_success(status: int) -> None:
    with Agent(status) as server:
        check(f"{server.uri}/health?deep=1")()
    assert [request.path for request in server.requests] == ["/health?deep=1"]


@pytest.mark.parametrize("status", [301, 404, 500, 503])
def test_a_url_fails_with_another_status_and_no_redirect_is_followed(status: int) -> None:
    with Agent(status, headers={"Location": "/"}) as server:
        with pytest.raises(CheckError, match=rf"^{server.uri}/health answered with status {status}$"):
            check(f"{server.uri}/health")()
        assert len(server.requests) == 1


def test_a_url_fails_without_the_values_of_its_query() -> None:
    with Agent(500) as server, pytest.raises(CheckError) as failed:
        check(f"{server.uri}/health?key=hunter2")()
    assert str(failed.value) == f"{server.uri}/health?key=--redacted-- answered with status 500"


def test_a_url_fails_where_nobody_answers_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ping = check(f"http://127.0.0.1:{silent.getsockname()[1]}/", STTR_MONITOR_CHECKTIMEOUT="100ms")
        with pytest.raises(CheckError, match="timed out"):
            ping()


def test_a_command_passes_if_it_exits_with_0() -> None:
    check("exec:true")()
    check("exec:sh -c 'exit 0'")()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "false exited with 1"),
        ("sh -c 'echo no space left; echo on disk >&2; exit 3'", "sh exited with 3: no space left on disk"),
        ("/none/such", "/none/such can't be started: No such file or directory"),
        ("sh -c 'kill -9 $$'", "sh exited with -9"),
    ],
)
def test_a_command_fails_with_its_status_and_what_it_wrote(command: str, reason: str) -> None:
    with pytest.raises(CheckError) as failed:
        check(f"exec:{command}")()
    assert str(failed.value) == reason


def test_a_command_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    script = tmp_path / "hang"
    script.write_text(f"#!/bin/sh\nsleep 600 & echo $$ $! > {file}; wait")
    script.chmod(0o755)
    with pytest.raises(CheckError, match=r"hang was killed: it did not end within 0\.3 s"):
        check(f"exec:{script}", STTR_MONITOR_CHECKTIMEOUT="300ms")()
    pids = [*map(int, file.read_text().split())]
    eventually(lambda: not any(map(is_alive, pids)))


def test_a_command_may_leave_something_in_the_background(tmp_path: Path) -> None:
    script = tmp_path / "leaves"
    script.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/pid; echo no space; exit $1")
    script.chmod(0o755)
    check(f"exec:{script} 0")()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    with pytest.raises(CheckError, match="leaves exited with 1: no space"):
        check(f"exec:{script} 1")()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_of_a_command_that_writes_without_end_little_is_kept() -> None:
    before = psutil.Process().memory_info().rss
    with pytest.raises(CheckError, match="yes was killed"):
        check("exec:yes", STTR_MONITOR_CHECKTIMEOUT="500ms")()
    assert psutil.Process().memory_info().rss - before < 20 << 20


def test_of_much_output_the_beginning_is_shown() -> None:
    with pytest.raises(CheckError) as failed:
        check("exec:sh -c 'echo first; head -c 1000000 /dev/zero; exit 4'")()
    assert str(failed.value).startswith("sh exited with 4: first ")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STTR_CONSUL_TOKEN", "hunter2")
    monkeypatch.setenv("STTR_CONSUL_TOKEN_FILE", "/run/token")
    monkeypatch.setenv("STTR_CLIENT_HEADERS", "X-Key,hunter2")
    monkeypatch.setenv("SHOP", "open")
    with pytest.raises(CheckError) as failed:
        check("exec:sh -c 'echo $SHOP $STTR_CONSUL_TOKEN$STTR_CONSUL_TOKEN_FILE$STTR_CLIENT_HEADERS; exit 1'")()
    assert str(failed.value) == "sh exited with 1: open"


def test_a_function_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_checks.py").write_text(
        "async def queue():\n    return False\n\ndef db():\n    raise OSError('down')\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="down"):
        check("shop_checks:db")()
    assert check("shop_checks:queue") is load_function("shop_checks:queue")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("none_such:ping", "the health check none_such:ping can't be imported: ModuleNotFoundError: No module named"),
        ("os:none_such", "the health check os:none_such can't be found: os has no function 'none_such'"),
        ("os:name", "the health check os:name can't be found: os has no function 'name'"),
    ],
)
def test_a_function_that_is_not_there_ends_the_start(spec: str, reason: str) -> None:
    with pytest.raises(StartError) as failed:
        check(spec)
    assert str(failed.value).startswith(reason)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("db", "expected a comma-separated list of key=value"),
        ("db=tcp://:1", "expected a comma-separated list of name=target; db is none of tcp://host:port"),
        ("db=tcp://u:hunter2@db", "db is none of tcp://host:port"),
        ("db=ftp://db/", "db is none of tcp://host:port"),
        ("db=exec:", "db is none of tcp://host:port"),
        ("db=exec:it's", "db is none of tcp://host:port"),
        ("db=http://", "db is none of tcp://host:port"),
        ("db=http://[", "db is none of tcp://host:port"),
        ("db=tcp://a:1,db=tcp://b:2", "expected different names, but there are two called db"),
    ],
)
def test_a_target_that_is_none_is_refused_without_its_text(value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as failed:
        checks(value)
    assert problem in str(failed.value)
    assert "hunter2" not in str(failed.value)


def test_the_program_answers_for_its_checks(tmp_path: Path) -> None:
    (tmp_path / "probes.py").write_text(
        "from pathlib import Path\n\nasync def open_():\n    return Path('open').exists()\n"
    )
    with Agent() as server:
        env = {
            "STTR_MONITOR_CHECKS": f"web={server.uri}/up,shop=probes:open_,disk=exec:true",
            "STTR_COLLECTORS": "wave",
            "STTR_SERVER_WORKERS": "2",
        }
        (tmp_path / "open").touch()
        with Program(env, tmp_path) as program:
            program.wait_for("ready")
            answer = program.get("/monitor")
            assert answer.status == 200
            assert json.loads(answer.body) == {"status": "ok", "checks": {"web": "ok", "shop": "ok", "disk": "ok"}}
            server.status = 500
            (tmp_path / "open").unlink()
            for path in ("/monitor", "/monitor/ready"):
                answer = program.get(path)
                assert answer.status == 503
                assert json.loads(answer.body) == {
                    "status": "failing",
                    "checks": {
                        "web": f"{server.uri}/up answered with status 500",
                        "shop": "the check returned False",
                        "disk": "ok",
                    },
                }
            assert program.get("/monitor/live").status == 200
            exposed = program.get("/metrics").body.decode().splitlines()
            samples = {" ".join(line.split()[:2]) for line in exposed}  # without their stamps
            assert {each for each in samples if each.startswith("stator_check_up{")} == {
                'stator_check_up{check="web"} 0',
                'stator_check_up{check="shop"} 0',
                'stator_check_up{check="disk"} 1',
            }
            assert sum(line.startswith("stator_check_duration_seconds{") for line in exposed) == 3
            assert program.stop() == 0


def test_it_registers_once_its_checks_pass(tmp_path: Path) -> None:
    targets = tmp_path / "targets.json"
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        env = {
            "STTR_MONITOR_CHECKS": f"db=tcp://127.0.0.1:{port.getsockname()[1]}",
            "STTR_ROSTER_REGISTRAR": "file",
            "STTR_FILE_PATH": str(targets),
        }
        with Program(env, tmp_path) as program:
            program.wait_for("health check fails", check="db")
            assert not targets.exists()
            port.listen()
            program.wait_for("registered")
            assert program.stop() == 0


def test_an_embedded_stator_makes_the_checks_of_both_in_its_event_loop() -> None:
    async def ask() -> tuple[Reply, Reply]:
        loop = asyncio.get_running_loop()

        async def db() -> bool:
            return asyncio.get_running_loop() is loop

        environ = {"STTR_MONITOR_CHECKS": "disk=exec:false"}
        app = stator.Stator(checks={"db": db}, environ=environ).asgi_app()
        return await call(app, "GET", "/monitor"), await call(app, "GET", "/metrics")

    monitor, metrics = asyncio.run(ask())
    assert monitor.status == 503
    assert json.loads(monitor.body)["checks"] == {"disk": "false exited with 1", "db": "ok"}
    assert 'stator_check_up{check="disk"} 0' in metrics.body.decode()
    assert 'stator_check_up{check="db"} 1' in metrics.body.decode()


def test_nothing_is_left_of_a_command_when_the_program_ends(tmp_path: Path) -> None:
    env = {"STTR_MONITOR_CHECKS": "slow=exec:sleep 600", "STTR_MONITOR_CHECKTIMEOUT": "1m", "STTR_SERVER_TIMEOUT": "1s"}
    with Program(env, tmp_path) as program, program.dial() as asking:
        asking.sendall(b"GET /monitor HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: [each for each in program.processes() if each.name() == "sleep"])
        assert program.stop() == 0
        assert not program.processes()
