"""The container engine that tests use: the one that answers on this machine, or one that they start.

An engine of the tests' own runs in namespaces of its own (processes, mounts, network, cgroups of one name). Its first
process is killed by the kernel when the one that started it ends, and with it end all its processes, its bridges,
rules and mounts: nothing has to be cleaned up, whatever happened.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.containers import debian
from tests.program import cannot, eventually

MACHINE = Path(__file__).with_name("machine.sh")
CGROUPS = Path("/sys/fs/cgroup")
# What the engine's first process is started with.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child")


class EngineError(Exception):
    """An engine does not start; says what it logged."""


class Reply(NamedTuple):
    """What came back for a request; the status is 0 where nobody answered."""

    status: int
    body: str


class Engine:
    """A container engine, with Compose and buildx.

    Args:
        enter: What a command line begins with to run where the engine is.
        is_own: Whether it is the tests' own, which has no registry to get images from.
    """

    def __init__(self, enter: Sequence[str] = (), *, is_own: bool = False) -> None:
        self.is_own = is_own
        self._enter = enter

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """The command line that runs a command where the engine is."""
        return [*self._enter, *arguments]

    def run(self, *arguments: str | Path, within: float = 60.0) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        return done.stdout

    def docker(self, *arguments: str | Path, within: float = 60.0) -> str:
        """What `docker` with these arguments prints; it must succeed."""
        return self.run("docker", *arguments, within=within)

    def get(self, address: str, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """What a server that a container publishes answers."""
        curl = ("curl", "--silent", "--noproxy", "*", "--max-time", "10", "--write-out", "\n%{http_code}")
        fields = [word for name, value in (headers or {}).items() for word in ("--header", f"{name}: {value}")]
        # Not from within the engine's root, only from its network: curl is this machine's.
        enter = [each for each in self._enter if each not in ("--mount", "--pid")]
        done = subprocess.run(
            [*enter, *curl, *fields, f"http://{address}{path}"], capture_output=True, text=True, check=False
        )
        body, _, status = done.stdout.rpartition("\n")
        return Reply(int(status or 0), body)


@contextmanager
def answering_or_own(shared: Path) -> Iterator[Engine]:
    """The engine that answers, or else one that is started, and gone in the end.

    Args:
        shared: A folder that the engine sees too, by the same name.
    """
    if _answers():
        yield Engine()
        return
    with own(shared) as engine:
        yield engine


def _answers() -> bool:
    try:
        for arguments in (("version",), ("compose", "version"), ("buildx", "version")):
            subprocess.run(("docker", *arguments), capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


@contextmanager
def own(shared: Path, name: str = "tests") -> Iterator[Engine]:
    """An engine of our own.

    Args:
        shared: A folder that the engine sees too, by the same name.
        name: Of the folder in which it keeps images; an engine that uses it already is waited for.
    """
    check_means()
    root = debian.engine_system()
    data = debian.SYSTEMS / f"images-{name}"
    data.mkdir(exist_ok=True)
    with ExitStack() as stack:
        # The engine inherits the lock: it is free only when the last process of the one before is gone.
        lock = stack.enter_context((debian.SYSTEMS / f"{name}.lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_cgroups(name)
        stack.callback(_remove_cgroups, name)
        try:
            engine = stack.enter_context(_started(root, data, shared, name, lock.fileno()))
        except EngineError:
            # A run that was killed may have left files that no engine starts with.
            shutil.rmtree(data)
            data.mkdir()
            engine = stack.enter_context(_started(root, data, shared, name, lock.fileno()))
        yield engine


def check_means() -> None:
    """Skips the test where no engine can be started."""
    if os.geteuid():
        cannot("no container engine answers, and only root can start one")
    for program in ("setpriv", "unshare", "nsenter", "curl"):
        if not shutil.which(program):
            cannot(f"no container engine answers, and there is no {program} to start one with")
    if not Path("/dev/net/tun").exists():
        cannot("no container engine answers, and there is no /dev/net/tun for one of the tests' own")
    tried = subprocess.run((*NAMESPACES, "true"), capture_output=True, text=True, check=False)
    if tried.returncode:
        cannot(f"no container engine answers, and none can be started: {tried.stderr.strip()}")


@contextmanager
def _started(root: Path, data: Path, shared: Path, name: str, lock: int) -> Iterator[Engine]:
    log = data.with_suffix(".log")
    command = (*DIES_WITH_US, *NAMESPACES, "sh", MACHINE, root, data, shared, f"/stator-{name}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=(lock,)
        )
    try:
        first = eventually(lambda: _first_child(process) or process.poll() is not None)
        if not isinstance(first, psutil.Process):
            raise EngineError(log.read_text())
        engine = Engine(("nsenter", f"--target={first.pid}", "--net", "--mount", "--pid"), is_own=True)
        eventually(lambda: process.poll() is not None or _is_up(engine, first), within=60)
        if process.poll() is not None:
            raise EngineError(log.read_text()[-5000:])
        with _network(engine, log):
            yield engine
            # In order: images that it is about to write are whole then.
            first.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
    finally:
        process.kill()
        process.wait()


def _first_child(process: subprocess.Popen[bytes]) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        return next(iter(psutil.Process(process.pid).children()), None)
    return None


def _is_up(engine: Engine, first: psutil.Process) -> bool:
    # Until it is dockerd, another engine of this machine might be asked.
    if first.name() != "dockerd":
        return False
    tried = subprocess.run(engine.command("docker", "version"), capture_output=True, check=False, timeout=20)
    return tried.returncode == 0


@contextmanager
def _network(engine: Engine, log: Path) -> Iterator[None]:
    """Lets containers reach what this machine reaches, without a change to its network."""
    here = [each for each in engine.command() if each != "--net"]
    slirp = "slirp4netns --configure --mtu=65520 --disable-host-loopback 1 tap0"
    command = (*DIES_WITH_US, *here, *slirp.split())
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: process.poll() is not None or "10.0.2.100" in engine.run("ip", "address"), within=20)
        if process.poll() is not None:
            raise EngineError(log.read_text()[-5000:])
        yield
    finally:
        # nsenter leaves its child to itself; that one ends with the namespace of its processes.
        process.kill()
        process.wait()


def _remove_cgroups(name: str) -> None:
    """Removes what the engine's containers leave behind: empty folders."""
    for top in (*CGROUPS.glob(f"stator-{name}"), *CGROUPS.glob(f"*/stator-{name}")):
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def main(shared: Path, name: str) -> None:
    """Starts an engine and a container, for a test that kills us; writes the ids of all processes, and waits."""
    shutil.copy(debian.engine_system() / "usr/bin/busybox", shared)
    (shared / "Dockerfile").write_text('FROM scratch\nCOPY busybox /\nENTRYPOINT ["/busybox", "sleep", "600"]\n')
    with own(shared, name) as engine:
        engine.docker("build", "--quiet", "--tag=sleep", shared)
        engine.docker("run", "--detach", "--publish=127.0.0.1:8087:8087", "sleep")
        sys.stdout.write(json.dumps([each.pid for each in psutil.Process().children(recursive=True)]) + "\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
