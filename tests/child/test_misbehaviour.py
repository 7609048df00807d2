"""Programs that do what they should not: each has a line in the log and its status, and nothing is left of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.child.conftest import Wraps
from tests.child.test_process import SERVER, child_of, family, free_port, is_running
from tests.fakes import Agent
from tests.program import MODULE, ROOT, Program, cannot, eventually

NOBODY = 65534
AS_NOBODY = f"import os, time; os.setgid({NOBODY}); os.setuid({NOBODY}); print('changed', flush=True); time.sleep(600)"
# The server listens once the process that was started is gone.
DAEMON = f"""
import os
started = os.getpid()
if os.fork():
    os._exit(0)
os.setsid()
while os.getppid() == started:
    pass
{SERVER}
"""
# It ends soon after its parent, as the resource tracker of multiprocessing does.
TRACKED = """
import os, time
read, write = os.pipe()
if os.fork() == 0:
    os.close(write)
    os.read(read, 1)
    time.sleep(0.1)
    os._exit(0)
time.sleep(0.3)
"""


@pytest.fixture
def consul() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


def registering(consul: Agent, port: int, **more: str) -> dict[str, str]:
    return {"STTR_CLIENT_BASEURI": consul.uri, "STTR_ROSTER_SERVICE_PORT": str(port), **more}


@contextmanager
def without_reader() -> Iterator[int]:
    """A pipe to write to, whose reader is gone."""
    read, write = os.pipe()
    os.close(read)
    yield write
    os.close(write)


def test_one_that_goes_into_the_background_is_not_registered_and_killed(wraps: Wraps, consul: Agent) -> None:
    port = free_port()
    program = wraps([sys.executable, "-c", DAEMON, str(port)], registering(consul, port))
    child_of(program)
    tree = family(program.pid)
    assert program.ended() == 0
    assert program.lines("program ended", status=0)
    assert program.lines("program left processes behind, killing them", processes=1)
    assert consul.asked("/v1/agent/service/register") == []
    eventually(lambda: not any(map(is_running, tree)))


def test_one_that_has_ended_is_not_registered_though_its_check_passes(wraps: Wraps, consul: Agent) -> None:
    program = wraps(["sh", "-c", "exit 3"], registering(consul, 80, STTR_CHILD_HEALTH="exec:sleep 0.5"))
    assert program.ended() == 3
    assert consul.asked("/v1/agent/service/register") == []


def test_what_ends_with_the_program_is_not_reported_as_left_behind(wraps: Wraps) -> None:
    program = wraps([sys.executable, "-c", TRACKED])
    assert program.ended() == 0
    assert not program.lines("program left processes behind, killing them")


def test_one_that_hangs_at_its_start_and_ignores_the_stop_signal_is_killed(wraps: Wraps, consul: Agent) -> None:
    env = registering(consul, free_port(), STTR_CHILD_STARTTIMEOUT="300ms", STTR_CHILD_STOPTIMEOUT="300ms")
    program = wraps(["bash", "-c", 'trap "" TERM; while :; do sleep 1; done'], env)
    child_of(program)
    tree = family(program.pid)
    assert program.ended() == 1
    assert program.lines("can't start", reason="the program was not healthy within 0.3 s")
    assert program.lines("program does not end, killing it")
    assert program.lines("program ended", signal="SIGKILL")
    assert consul.asked("/v1/agent/service/register") == []
    eventually(lambda: not any(map(is_running, tree)))


CHECKS = """
import time


async def fails():
    raise RuntimeError("no database")


def hangs():
    time.sleep(600)
"""


@pytest.mark.parametrize("check", ["fails", "hangs"])
def test_one_whose_check_fails_or_hangs_is_given_up_in_time(
    wraps: Wraps, consul: Agent, tmp_path: Path, check: str
) -> None:
    (tmp_path / "checks.py").write_text(CHECKS)
    env = registering(consul, 80, STTR_CHILD_HEALTH=f"checks:{check}", STTR_CHILD_STARTTIMEOUT="500ms")
    program = wraps(["sleep", "600"], {**env, "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert program.ended() == 1
    assert program.lines("can't start", reason="the program was not healthy within 0.5 s")
    assert consul.asked("/v1/agent/service/register") == []


def test_one_whose_name_is_not_utf_8_runs(wraps: Wraps, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/p\xffg")
    Path(name).symlink_to("/bin/sleep")
    program = wraps([name, "600"])
    child_of(program)
    assert 'p\\\\xffg"} 1' in program.get("/metrics").body.decode()
    assert program.stop() == 143


def test_one_that_hangs_at_its_start_can_be_stopped(wraps: Wraps, consul: Agent) -> None:
    program = wraps(["sleep", "600"], registering(consul, free_port(), STTR_ROSTER_DRAIN="1m"))
    child_of(program)
    assert program.stop() == 143
    assert consul.asked("/v1/agent/service/register") == []
    assert not program.processes()


def test_one_that_ends_while_it_drains_is_not_waited_for(wraps: Wraps, consul: Agent) -> None:
    env = registering(consul, 80, STTR_CHILD_HEALTH="exec:true", STTR_ROSTER_DRAIN="1m")
    program = wraps(["sleep", "600"], env)
    eventually(lambda: consul.services)
    program.send(signal.SIGTERM)
    eventually(lambda: not consul.services)
    os.kill(child_of(program), signal.SIGKILL)
    assert program.ended() == 137
    assert program.lines("program ended", signal="SIGKILL", level="warning")


def test_one_that_kills_us_ends_too(wraps: Wraps, tmp_path: Path) -> None:
    program = wraps(["bash", "-c", "until test -e go; do sleep 0.05; done; kill -KILL $PPID; exec sleep 600"])
    child_of(program)
    tree = family(program.pid)
    (tmp_path / "go").touch()
    assert program.ended() == -signal.SIGKILL
    eventually(lambda: not any(map(is_running, tree)))


def test_one_that_has_changed_its_user_is_stopped_but_outlives_us_if_we_are_killed(wraps: Wraps) -> None:
    if os.getuid() != 0:
        cannot("only root can be several users")
    program = wraps([sys.executable, "-c", AS_NOBODY])
    eventually(lambda: "changed" in program.output)
    assert program.stop() == 143

    program = wraps([sys.executable, "-c", AS_NOBODY])
    child = psutil.Process(child_of(program))
    eventually(lambda: "changed" in program.output)
    others = [pid for pid in family(program.pid) if pid != child.pid]
    program.send(signal.SIGKILL)
    program.ended()
    eventually(lambda: not any(map(is_running, others)))
    assert is_running(child.pid)
    child.kill()


def test_one_that_we_may_not_signal_is_reported_and_left(wraps: Wraps) -> None:
    if os.getuid() != 0:
        cannot("only root can be several users")
    # As in a container without this capability. https://man7.org/linux/man-pages/man2/PR_CAPBSET_DROP.2const.html
    drop = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 5); os.execv(sys.argv[1], sys.argv[1:])"
    env = {"STTR_CHILD_STOPTIMEOUT": "300ms"}
    program = wraps([sys.executable, "-c", AS_NOBODY], env, stator=(sys.executable, "-c", drop, *MODULE))
    child = psutil.Process(child_of(program))
    eventually(lambda: "changed" in program.output)
    others = [pid for pid in family(program.pid) if pid != child.pid]
    assert program.stop() == 1
    assert program.lines("may not signal the program", level="error", pid=child.pid, signal="SIGTERM")
    assert program.lines("program does not end, killing it")
    (line,) = program.lines("may not kill what is left of the program", level="error")
    assert line["pids"] == str(child.pid)
    assert program.lines()[-1]["msg"] == "stopped"
    assert not any(map(is_running, others))
    child.kill()


def test_one_whose_output_has_no_reader_ends_by_sigpipe(tmp_path: Path) -> None:
    with without_reader() as write, Program({}, tmp_path, args=("--", "yes"), stdout=write) as program:
        assert program.ended() == 141
        assert program.lines("program ended", signal="SIGPIPE", level="warning")


def test_a_log_without_a_reader_does_not_end_us(wraps: Wraps, tmp_path: Path) -> None:
    port = free_port()
    stator = ("bash", "-c", 'exec 2> >(exec true); wait $!; exec "$@"', "-", *MODULE)
    program = wraps(["sh", "-c", "echo $$; exec sleep 600"], {"STTR_SERVER_PORT": str(port)}, stator=stator)
    eventually(lambda: program.output)
    for _ in range(20):
        assert program.get("/monitor").status == 200
    assert program.stop() == 143
    assert not is_running(int(program.output))


def test_one_that_fills_the_pipe_of_our_log_does_not_stop_us(wraps: Wraps) -> None:
    port = free_port()
    # Who reads the pipe stands still.
    stator = ("bash", "-c", 'exec 2> >(exec sleep 600 >&-); exec "$@"', "-", *MODULE)
    program = wraps(["sh", "-c", "echo $$; exec yes >&2"], {"STTR_SERVER_PORT": str(port)}, stator=stator)
    eventually(lambda: program.output)
    for _ in range(5):
        assert program.get("/monitor").status == 200
    assert program.stop() == 143
    assert not is_running(int(program.output))


ON_A_SMALL_DISK = (
    *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c"),
    'mount -t tmpfs -o size=64k small "$PWD" && cd "$PWD" && exec "$@" > out 2> err',
    "sh",
)


def test_one_that_fills_the_disk_does_not_stop_us(wraps: Wraps, tmp_path: Path) -> None:
    tried = subprocess.run([*ON_A_SMALL_DISK, "true"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if tried.returncode:
        cannot(f"nothing can be mounted here: {tried.stderr.strip()}")
    fills = "cat /dev/zero > fill; touch full; while :; do echo more; sleep 0.05; done"
    env = {"STTR_SERVER_PORT": str(free_port()), "TMPDIR": str(tmp_path)}
    program = wraps(["bash", "-c", fills], env, stator=(*ON_A_SMALL_DISK, *MODULE))
    disk = Path(f"/proc/{program.pid}/root{tmp_path}")
    eventually((disk / "full").exists)
    for _ in range(20):
        assert program.get("/monitor").status == 200
    size = (disk / "err").stat().st_size
    (disk / "fill").unlink()
    # What finds no room is counted, and reported when there is room again.
    report = b"log lines were dropped"
    eventually(lambda: program.get("/monitor").status == 200 and report in (disk / "err").read_bytes()[size - 1 :])
    tree = family(program.pid)
    assert program.stop() == 143
    eventually(lambda: not any(map(is_running, tree)))


def test_one_that_writes_larger_files_than_it_may_ends_and_says_so(wraps: Wraps) -> None:
    limited = ("sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *MODULE)
    program = wraps(["sh", "-c", "exec yes"], stator=limited)
    assert program.ended() == 153
    assert program.lines("program ended", signal="SIGXFSZ", level="warning")


def test_a_log_as_large_as_it_may_be_does_not_stop_us(wraps: Wraps) -> None:
    limited = ("sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *MODULE)
    program = wraps(["sleep", "600"], stator=limited)
    program.wait_for("program started")
    tree = family(program.pid)
    eventually(lambda: program.get("/monitor").status == 200 and program.stderr.stat().st_size == 64 * 512)
    for _ in range(5):
        assert program.get("/monitor").status == 200
    assert program.stop() == 143
    eventually(lambda: not any(map(is_running, tree)))


def test_its_signals_are_as_a_shell_has_them(wraps: Wraps) -> None:
    command = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    program = wraps(command)
    assert program.ended() == 0
    # Whoever starts all of this may have had signals ignored.
    assert program.output == subprocess.run(command, capture_output=True, text=True, check=True).stdout
