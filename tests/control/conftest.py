"""What tests of a running service's control share: the command, and load while it acts."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from itertools import count
from typing import NamedTuple

from tests.embedding.conftest import serve_app  # noqa: F401 # a fixture
from tests.program import ROOT, Program
from tests.server.conftest import starts  # noqa: F401 # a fixture

NOBODY = 65534
# Imported before the change of user: that user may not be allowed to read this checkout.
AS_USER = """
import contextlib, io, os, sys
from stator.control import ctl
with contextlib.redirect_stdout(io.StringIO()):
    ctl.run(["-h"])
user = int(sys.argv[1])
if user:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
sys.exit(ctl.run(sys.argv[2:]))
"""


class Ended(NamedTuple):
    """What a run of the command gave."""

    status: int
    output: str
    errors: str


def ctl(*args: object) -> Ended:
    """Runs the command as a user would."""
    return _run([sys.executable, "-m", "stator", "ctl", *map(str, args)])


def ctl_as(user: int, *args: object) -> Ended:
    """Runs the command as another user."""
    return _run([sys.executable, "-c", AS_USER, str(user), *map(str, args)])


def _run(command: list[str]) -> Ended:
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=20, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def shows(pid: int) -> dict[str, str]:
    """What `ctl PID` prints, by its first words."""
    ended = ctl(pid)
    assert ended.status == 0, ended
    return {line[:13].strip(): line[13:].strip() for line in ended.output.splitlines()}


def listed(pid: int) -> list[list[str]]:
    """The words of the lines of `ctl` that begin with a process id."""
    ended = ctl()
    heading, *lines = ended.output.splitlines() or [""]
    if heading:
        assert heading.split() == ["PID", "PORT", "SERVICE", "KIND", "REGISTRATION"]
    else:  # nor does one of another test run
        assert ended == Ended(0, "", "stator: no Stator runs here that this user may look into\n")
    return [line.split(maxsplit=4) for line in lines if line.split()[0] == str(pid)]


@contextmanager
def load(program: Program, path: str = "/monitor") -> Iterator[list[int]]:
    """Four clients that keep asking; gives the statuses that they got, 0 for a request that failed."""
    statuses: list[int] = []
    over = threading.Event()

    def ask() -> None:
        connection = program.connect()
        for number in count(1):
            if over.is_set():
                break
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            except (OSError, HTTPException):
                statuses.append(0)
            if number % 10 == 0:  # and then another worker may answer
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    try:
        yield statuses
    finally:
        over.set()
        for each in threads:
            each.join(20)
