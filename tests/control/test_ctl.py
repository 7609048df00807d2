"""The command `ctl`, on the program, on applications with Stator in them, and on a wrapped nginx."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.control.state import NAME, SharedState
from stator.processes.memfd import memories
from tests.control.conftest import NOBODY, ctl, ctl_as, listed, load, shows
from tests.control.test_signals import WORKERS, ask_all, ready
from tests.embedding.applications import FALCON_WSGI, gunicorn, uvicorn
from tests.embedding.conftest import ServeApp
from tests.integration.children import CHILDREN, Http
from tests.integration.programs import Consul, free_ports
from tests.program import ROOT, Program, cannot, eventually
from tests.server.conftest import Starts

# An application whose own log says at debug that it was asked.
SHOP = """
import logging, os
import stator

{configure}
observer = stator.Stator(service="shop", version="1.2")

async def shop(scope, receive, send):
    if scope["type"] != "http":
        return
    logging.getLogger("stator").debug("asked pid=%s", os.getpid())
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}})
    await send({{"type": "http.response.body", "body": b"hello"}})

app = observer.asgi_app(shop)
again = observer.wsgi_app(), stator.wsgi_app(service="shop")  # it is still one service
"""
ASGI = SHOP.format(configure='stator.configure_logging(service="shop")')
REGISTERED = """
import stator
observer = stator.Stator(service="shop")
registration = observer.registered({port}, monitor="/monitor")

def shop(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

app = observer.wsgi_app(shop)
registration.start()
"""
AS_ROOT = "only root becomes another user"


def asked(program: Program) -> set[str]:
    """The processes whose application logged at debug that it was asked."""
    return {
        line.partition("asked pid=")[2][:9].split('"')[0]
        for line in program.output.splitlines()
        if "asked pid=" in line
    }


def test_the_program_with_four_workers_is_one_line_and_any_process_names_it(starts: Starts) -> None:
    program = ready(starts({**WORKERS, "STTR_ROSTER_SERVICE_META": "version=7.1"}), 4)
    eventually(lambda: listed(program.pid)[0][4:] == ["not registering"])
    assert listed(program.pid) == [[str(program.pid), str(program.port), "stator", "program", "not registering"]]
    workers = sorted(each.pid for each in program.workers)
    said = shows(program.pid)
    assert said["service"] == "stator"
    assert said["version"] == "7.1"
    assert said["port"] == str(program.port)
    assert said["state"] == "running"
    assert said["registration"] == "not registering: no discovery service is configured"
    assert said["workers"] == f"4: {', '.join(map(str, workers))}"
    assert said["level"] == "info"
    for each in program.processes():
        found = json.loads(ctl("--json", each.pid).output)
        assert (found["pid"], found["workers"], found["kind"]) == (program.pid, workers, "program")
    assert [each for each in json.loads(ctl("--json").output) if each["pid"] == program.pid]


def test_it_says_what_became_of_the_registration(starts: Starts, tmp_path: Path) -> None:
    with Consul(tmp_path) as consul:
        program = starts({"STTR_CLIENT_BASEURI": consul.url, "STTR_ROSTER_DRAIN": "2s"})
        program.wait_for("registered")
        assert shows(program.pid)["registration"].startswith("registered as stator-")
        program.send(signal.SIGTERM)
        program.wait_for("unregistered")
        said = shows(program.pid)
        assert (said["registration"], said["state"]) == ("unregistered", "stopping")
        assert program.ended() == 0
    assert ctl(program.pid).status == 1


def test_it_changes_the_level_of_all_processes(starts: Starts) -> None:
    program = ready(starts({**WORKERS, "STTR_LOGGER_QUIETPATHS": "/monitor/*"}), 4)
    worker = program.workers[0].pid
    assert ctl(worker, "level").output == "stator: the log's level is debug\n"
    assert program.wait_for("log level changed")["to"] == "debug"
    assert shows(worker)["level"] == "debug (changed)"
    ask_all(program, 4)
    assert ctl(program.pid, "level").output == "stator: the log's level is info\n"
    before = len(program.lines(level="debug"))
    program.get("/monitor/live")
    assert len(program.lines(level="debug")) == before
    assert ctl(program.arbiter.pid, "level", "error").status == 0
    program.wait_for("log level changed", to="error")
    program.get("/metrics")
    assert not program.lines("received request", path="/metrics")


def test_it_asks_for_stacks_and_for_files_to_be_read_again(starts: Starts) -> None:
    program = ready(starts(WORKERS), 4)
    assert ctl(program.workers[3].pid, "stacks").status == 0
    eventually(lambda: len(program.lines("stacks")) == 6)
    assert ctl(program.workers[3].pid, "reload").status == 0
    program.wait_for("read files again: none has changed")
    assert program.stop() == 0


def test_it_says_that_nohup_has_hup_ignored(starts: Starts) -> None:
    ignoring = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    again = f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'stator'])"
    program = ready(starts(command=(sys.executable, "-c", f"{ignoring}; {again}")))
    ended = ctl(program.pid, "reload")
    assert (ended.status, ended.output) == (1, "")
    assert "ignores SIGHUP" in ended.errors


def test_it_works_while_the_service_starts_and_when_it_was_killed(starts: Starts) -> None:
    program = starts(WORKERS)
    eventually(lambda: ctl(program.pid, "level", "debug").status == 0)
    program.wait_for("log level changed", to="debug")
    ready(program, 4)
    arbiter = program.arbiter.pid
    os.kill(program.pid, signal.SIGKILL)
    eventually(lambda: not program.processes())
    assert ctl(arbiter).status == 1
    assert not listed(program.pid)


def test_an_embedded_uvicorn_with_four_workers_is_one_line(serve_app: ServeApp) -> None:
    served = serve_app(ASGI, uvicorn("--workers=4"))
    eventually(lambda: len(json.loads(ctl("--json", served.pid).output)["workers"]) == 4)
    assert listed(served.pid) == [[str(served.pid), str(served.port), "shop", "embedded", "not registering"]]
    workers = json.loads(ctl("--json", served.pid).output)["workers"]
    said = shows(workers[2])
    assert (said["service"], said["version"], said["pid"]) == ("shop", "1.2", str(served.pid))
    assert said["level"] == "as configured"
    with load(served, "/") as statuses:
        assert ctl(workers[1], "level").output == "shop: the log's level is debug\n"
        eventually(lambda: asked(served) == {*map(str, workers)})
        os.kill(workers[0], signal.SIGKILL)
        # Its successor has the level, too.
        eventually(lambda: len(asked(served)) == 5, within=20)
    assert 200 in statuses
    assert ctl(served.pid, "level").output == "shop: the log's level is as configured\n"
    time.sleep(0.2)  # each of them has a signal's handler to run
    before = served.output.count("asked pid=")
    for _ in range(20):
        served.get("/")
    assert served.output.count("asked pid=") == before


def test_the_stacks_of_an_embedded_service_come_in_its_log(serve_app: ServeApp) -> None:
    served = serve_app(ASGI, uvicorn("--workers=4"))
    eventually(lambda: len(json.loads(ctl("--json", served.pid).output)["workers"]) == 4)
    assert "4 processes" in ctl(served.pid, "stacks").output
    lines = eventually(lambda: len(found := served.lines("stacks")) >= 4 and found) or []
    assert len({line["pid"] for line in lines}) == len(lines) == 4
    assert all("\n\ntask Task-1\n" in line["stacks"] and "in main_loop: " in line["stacks"] for line in lines)
    refused = ctl(served.pid, "reload")
    assert refused.status == 1
    assert "its own reload" in refused.errors


@pytest.mark.parametrize("level", ["debug", "info"])
def test_stacks_of_an_application_without_handlers_come_on_stderr(serve_app: ServeApp, level: str) -> None:
    served = serve_app(SHOP.format(configure=""), uvicorn())
    for times, action in ((1, ("stacks",)), (1, ("level", level)), (2, ("stacks",))):
        assert ctl(served.pid, *action).status == 0
        eventually(lambda times=times: served.errors.count("stacks process=") == times)  # type: ignore[misc]


@pytest.mark.parametrize("preload", [[], ["--preload"]])
def test_an_embedded_gunicorn_with_two_workers(serve_app: ServeApp, preload: list[str]) -> None:
    code = FALCON_WSGI + "\nimport logging\nlogging.basicConfig(level=logging.INFO)\n"
    served = serve_app(code, gunicorn("-k=sync", "--workers=2", *preload))
    eventually(lambda: len(json.loads(ctl("--json", served.pid).output)["workers"]) == 2)
    workers = sorted(each.pid for each in psutil.Process(served.pid).children())
    assert json.loads(ctl("--json", served.pid).output)["workers"] == workers
    assert len(listed(served.pid)) == 1
    assert ctl(workers[0], "stacks").status == 0
    eventually(lambda: served.errors.count("stacks process='worker'") == 2)
    assert served.errors.count("stacks process='main'") == len(preload)
    assert ctl(workers[1], "level", "debug").status == 0
    assert shows(served.pid)["level"] == "debug (changed)"
    eventually(lambda: served.errors.count("log level changed") == 2 + len(preload))
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: len(json.loads(ctl("--json", served.pid).output)["workers"]) == 2)
    assert served.monitor().status in (200, 503)


def test_an_application_with_its_own_handlers_keeps_them(serve_app: ServeApp) -> None:
    handler = """lambda *_: print('{"msg": "mine"}', flush=True)"""
    own = f"import signal\nsignal.signal({int(STACKS_SIGNAL)}, {handler})\n"
    served = serve_app(own + ASGI, uvicorn())
    os.kill(served.pid, STACKS_SIGNAL)
    eventually(lambda: served.lines("mine"))
    os.kill(served.pid, LEVEL_SIGNAL)
    eventually(lambda: served.lines("log level changed"))
    assert not served.lines("stacks")


@pytest.mark.parametrize("kind", ["embedded", "keeper"])
def test_the_registration_of_an_application_is_shown(serve_app: ServeApp, tmp_path: Path, kind: str) -> None:
    with Consul(tmp_path) as consul:
        (port,) = free_ports(1)
        code = REGISTERED.format(port=port)
        if kind == "keeper":  # nothing of ours answers in it
            code = code.replace("observer.wsgi_app(shop)", "shop").replace('monitor="/monitor"', 'monitor="/up"')
        served = serve_app(code, gunicorn("-k=sync", "--workers=2"), port=port, env={"STTR_CLIENT_BASEURI": consul.url})
        eventually(lambda: len(found := listed(served.pid)) == 1 and found[0][4].startswith("registered as shop-"))
        assert listed(served.pid)[0][1:4] == [str(port), "shop", kind]
        ended = ctl(served.pid, "level")
        assert ended.status == (kind == "keeper")
        assert len([each for each in json.loads(ctl("--json").output) if each["port"] == port]) == 1


def test_an_embedded_service_is_not_disturbed_by_a_storm(serve_app: ServeApp) -> None:
    served = serve_app(ASGI, uvicorn("--workers=2"))
    eventually(lambda: len(json.loads(ctl("--json", served.pid).output)["workers"]) == 2)
    workers = json.loads(ctl("--json", served.pid).output)["workers"]
    with load(served, "/") as statuses:
        until = time.monotonic() + 3
        while time.monotonic() < until or len(statuses) < 300:
            for each in workers:
                os.kill(each, LEVEL_SIGNAL)
                os.kill(each, STACKS_SIGNAL)
            time.sleep(0.005)
    assert set(statuses) == {200}
    assert json.loads(ctl("--json", served.pid).output)["workers"] == workers
    assert "Traceback" not in served.errors + served.output


def test_a_wrapped_nginx_gets_its_signals_itself_and_both_get_hup(starts: Starts, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        made = CHILDREN["nginx"].prepare(port, tmp_path, stack)
        (config,) = tmp_path.rglob("nginx.conf")
        config.write_text(config.read_text().replace("error_log stderr;", "error_log stderr notice;"))
        env = {
            "STTR_ROSTER_SERVICE_PORT": str(port),
            "STTR_CHILD_STOPSIGNAL": "QUIT",
            "STTR_ROSTER_SERVICE_NAME": "web",
        }
        program = starts({**made.env, **env, **WORKERS}, args=("--", *map(str, made.command)))
        program.wait_for("program started")
        eventually(lambda: shows(program.pid)["state"] == "running", within=30)
        nginx = int(json.loads(ctl("--json", program.pid).output)["child"])
        said = shows(program.pid)
        assert (said["kind"], said["service port"], said["service"]) == ("wrapped", str(port), "web")
        client = Http(port)
        for action in ("stacks", "level"):
            assert ctl(program.pid, action).status == 0
        eventually(lambda: len(program.lines("stacks")) == 6)
        program.wait_for("log level changed", to="debug")
        assert psutil.Process(nginx).is_running()
        client.ask()
        # Its own: USR1 opens its logs again, USR2 starts its successor.
        program.send(signal.SIGUSR1)
        eventually(lambda: "reopening logs" in program.errors)
        program.send(signal.SIGUSR2)
        eventually(lambda: "changing binary" in program.errors)
        assert len(program.lines("log level changed")) == 1
        assert len(program.lines("stacks")) == 6
        assert ctl(program.pid, "reload").status == 0
        program.wait_for("read files again: none has changed")
        eventually(lambda: "reconfiguring" in program.errors)
        client.ask()
        client.close()
        assert program.stop(within=40) == 0


def test_a_wrapped_program_that_sighup_would_end_is_not_reloaded(starts: Starts) -> None:
    program = starts(args=("--", "sleep", "60"))
    program.wait_for("program started")
    eventually(lambda: shows(program.pid)["state"] == "running", within=30)
    ended = ctl(program.pid, "reload")
    assert ended.status == 1
    assert "the wrapped program, gets SIGHUP too: it has no handler, and would end" in ended.errors
    assert json.loads(ctl("--json", program.pid).output)["child"]
    assert program.stop(within=40) == 128 + signal.SIGTERM  # the program's own


def test_a_service_in_a_pid_namespace_of_its_own_is_controlled_from_outside(starts: Starts) -> None:
    if os.geteuid() != 0:
        cannot("only root makes a PID namespace, as that of a container")
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    outer = starts(WORKERS, command=[*unshare, sys.executable, "-m", "stator"])
    outer.wait_for("ready")
    (inner,) = psutil.Process(outer.pid).children()
    eventually(lambda: len(inner.children(recursive=True)) == 5)
    workers = sorted(each.pid for each in inner.children()[0].children())
    eventually(lambda: json.loads(ctl("--json", workers[0]).output)["workers"] == workers)
    assert shows(workers[0])["pid"] == str(inner.pid)
    for action in ("level", "stacks", "reload"):
        assert ctl(workers[0], action).status == 0
    outer.wait_for("log level changed", to="debug")
    outer.wait_for("read files again: none has changed")
    assert min(line["pid"] for line in outer.lines("stacks")) == 1


LOGS_ITSELF = """
import logging
import structlog
import stator

logging.basicConfig(level="WARNING", format="%(levelname)s %(name)s %(message)s")
own = logging.getLogger("shop.observability")
observer = stator.Stator(service="shop", log=own)

def shop(environ, start_response):
    for name in ("stator", "shop.observability", "shop"):
        logging.getLogger(name).debug("deep")
    start_response("200 OK", [])
    return [b"hello"]

app = observer.wsgi_app(shop)
"""
LATER = """
import stator
app = stator.wsgi_app(lambda environ, start: [start("200 OK", []), b"hello"][1:], service="shop")
import os, signal, time
def later():
    import structlog
    stator.configure_logging(service="shop")
    structlog.get_logger().debug("is it on?")
later()
"""


def test_the_level_that_changes_is_that_of_the_logger_that_stator_got(serve_app: ServeApp) -> None:
    served = serve_app(LOGS_ITSELF, gunicorn("-k=gthread", "--workers=1"))
    served.get("/")
    assert "deep" not in served.errors
    assert ctl(served.pid, "level").status == 0
    eventually(lambda: "INFO shop.observability log level changed" in served.errors)
    served.get("/")
    assert [line for line in served.errors.splitlines() if "deep" in line] == ["DEBUG shop.observability deep"]


def test_a_worker_whose_log_is_configured_later_has_the_level_too(serve_app: ServeApp) -> None:
    served = serve_app(LATER, gunicorn("-k=sync", "--workers=2"))
    eventually(lambda: len(json.loads(ctl("--json", served.pid).output)["workers"]) == 2)
    assert not served.lines("is it on?")
    assert ctl(served.pid, "level").status == 0
    os.kill(json.loads(ctl("--json", served.pid).output)["workers"][0], signal.SIGKILL)
    eventually(lambda: served.lines("is it on?"), within=20)


def test_another_user_is_refused_with_a_line(starts: Starts) -> None:
    if os.geteuid() != 0:
        cannot(AS_ROOT)
    program = ready(starts())
    for args in ((), ("level",), ("stacks",), ("reload",), ("status",)):
        ended = ctl_as(NOBODY, program.pid, *args)
        assert ended == (1, "", f"stator: can't look at process {program.pid}: it belongs to user root\n")
    ended = ctl_as(NOBODY)
    assert (ended.status, str(program.pid) in ended.output) == (0, False)
    assert ended.errors == "stator: no Stator runs here that this user may look into\n"
    assert not program.lines("log level changed")


@pytest.mark.parametrize(
    ("args", "status", "line"),
    [
        (("x",), 2, "expected a process id, not 'x'"),
        (("0",), 2, "expected a process id, not '0'"),
        (("1", "explode"), 2, "invalid choice: 'explode'"),
        (("1", "level", "loud"), 2, "invalid choice: 'loud'"),
        (("1", "status", "debug"), 2, "status takes no 'debug'"),
        (("1", "status", "debug", "more"), 2, "unrecognized arguments: more"),
        (("--json", "1", "stacks"), 2, "stacks has no JSON"),
        (("--yaml",), 2, "unrecognized arguments: --yaml"),
        (("4194305",), 1, "there is no process 4194305"),
        (("OTHER",), 1, "is no Stator"),
    ],
)
def test_what_can_not_be_is_one_line(args: tuple[str, ...], status: int, line: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        ended = ctl(*(other.pid if each == "OTHER" else each for each in args))
        other.kill()
    assert (ended.status, ended.output) == (status, "")
    assert ended.errors.startswith("stator: ")
    assert line in ended.errors
    assert ended.errors.count("\n") == 1


def test_its_help_says_all() -> None:
    ended = ctl("-h")
    assert ended.status == 0
    for word in ("status", "level", "stacks", "reload", "--json", "PID"):
        assert word in ended.output


FORGED = """
import os, sys, time
from stator.control.state import SharedState
state = SharedState.new("stator-state")
state.publish(kind="program", service="\\x1b[2Jevil", pid=int(sys.argv[1]), arbiter=1)
state.publish(registration="x\\n1 2 3", port="no", signals={"level": 9, "stacks": 15})
print("ready", flush=True)
time.sleep(60)
"""


def test_a_state_that_another_process_forged_reaches_no_other_process(tmp_path: Path) -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as victim,
        subprocess.Popen(
            [sys.executable, "-c", FORGED, str(victim.pid)], stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
        ) as forger,
    ):
        assert forger.stdout
        forger.stdout.readline()
        try:
            assert "\x1b" not in ctl().output + ctl(forger.pid).output
            for action in ("reload", "level", "stacks"):
                assert ctl(forger.pid, action).status == 1
            assert (victim.poll(), forger.poll()) == (None, None)
        finally:
            victim.kill()
            forger.kill()


def test_a_state_of_a_later_version_is_named(tmp_path: Path) -> None:
    fd = os.memfd_create(NAME)
    os.write(fd, b"stator\0\2" + bytes(9000))
    with subprocess.Popen(["sleep", "60"], pass_fds=[fd]) as other:
        os.close(fd)
        ended = ctl(other.pid)
        other.kill()
    assert ended.status == 1
    assert "form 2" in ended.errors


def test_without_a_file_in_memory_the_service_runs_on(starts: Starts) -> None:
    without = "import os, runpy; os.memfd_create = os.rmdir; runpy.run_module('stator', run_name='__main__')"
    program = ready(starts(command=(sys.executable, "-c", without)))
    assert ctl(program.pid).status == 1
    program.send(signal.SIGUSR1)
    program.wait_for("log level changed", to="debug")
    assert program.stop() == 0


def test_it_imports_no_server_and_starts_quickly() -> None:
    code = "import sys; sys.argv[1:] = ['ctl']; from stator.__main__ import run; run(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"gunicorn", "uvicorn", "falcon", "structlog", "psutil", "asyncio", "stator.main"} & {*modules}


def test_a_state_is_dropped_with_its_last_object() -> None:
    state = SharedState.new("stator-state-test")
    assert "stator-state-test" in [name for _, name in memories(os.getpid())]
    del state
    assert "stator-state-test" not in [name for _, name in memories(os.getpid())]
