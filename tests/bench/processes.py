"""Starting programs for a benchmark: how long until they answer, and how much memory they take."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

import psutil

from tests.integration.programs import free_ports

ROOT = Path(__file__).parents[2]
PYZ = ROOT / "dist" / "stator.pyz"
GIVE_UP = 20.0


class Started(NamedTuple):
    """A service that answers.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        seconds: From starting it to its first answer with status 200.
        process: Its main process.
    """

    port: int
    seconds: float
    process: subprocess.Popen[bytes]

    def pss(self) -> int:
        """Memory in bytes of all of its processes; what several share is counted once."""
        main = psutil.Process(self.process.pid)
        return sum(each.memory_full_info().pss for each in (main, *main.children(recursive=True)))


@contextmanager
def started(
    command: list[str],
    port: int,
    env: dict[str, str] | None = None,
    path: str = "/monitor",
    log: IO[bytes] | None = None,
) -> Iterator[Started]:
    """Starts a service and stops it in the end; what it writes goes to `log`, where that is given.

    Raises:
        TimeoutError: It does not answer.
    """
    begin = time.perf_counter()
    with TemporaryFile() as scratch:
        output = log or scratch
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | (env or {}), stdout=output, stderr=output)
    try:
        while not is_serving(port, path):
            if time.perf_counter() - begin > GIVE_UP or process.poll() is not None:
                msg = f"{command} does not answer"
                raise TimeoutError(msg)
            time.sleep(0.002)
        yield Started(port, time.perf_counter() - begin, process)
    finally:
        process.terminate()
        process.wait(GIVE_UP)


def is_serving(port: int, path: str) -> bool:
    """Whether a service answers with status 200, as prometheus_client's applications answer any path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    return False


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses; not one that a client gets, which could then connect to itself."""
    (port,) = free_ports(1)
    return port


@contextmanager
def stator(env: Mapping[str, str] | None = None, log: IO[bytes] | None = None) -> Iterator[Started]:
    """The .pyz on a port of its own, with nothing but its defaults and these variables."""
    port = free_port()
    variables = {"STTR_SERVER_PORT": str(port), **(env or {})}
    with started([sys.executable, str(PYZ)], port, variables, log=log) as running:
        yield running


@contextmanager
def bare() -> Iterator[Started]:
    """Gunicorn and uvicorn's worker, as Stator has them, with a Falcon application that only answers /monitor."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "--no-control-socket"]
    with started([*command, "-b", f"127.0.0.1:{port}", "tests.bench.bare:app"], port) as running:
        yield running
