"""A service of several processes that do as a test says: each runs Python code, forks, and is killed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.program import ROOT

AGENT = r"""
import json, os, signal, socket, sys, traceback

NAMES = {"prelude": sys.argv[1]}
CHILDREN = {}


def run(code):
    try:
        return eval(code, NAMES)
    except SyntaxError:
        exec(code, NAMES)


def answered(lines, answer):
    for line in lines:
        who, what, code = json.loads(line)
        try:
            result = act(who, what, code)
        except BaseException:
            result = {"error": traceback.format_exc()}
        answer.write(json.dumps(result) + "\n")
        answer.flush()


def act(who, what, code):
    if what == "fork":
        here, there = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            here.close()
            stream = there.makefile("rw")
            answered(stream, stream)
            os._exit(0)
        there.close()
        CHILDREN[who] = pid, here.makefile("rw")
        return pid
    if what == "kill":
        pid, stream = CHILDREN.pop(who)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None
    if who == "main":
        return run(code)
    stream = CHILDREN[who][1]
    stream.write(json.dumps(["main", "run", code]) + "\n")
    stream.flush()
    return json.loads(stream.readline())


run(NAMES["prelude"])
answered(sys.stdin, sys.stdout)
"""
SHARE = "import stator; stator.share_metrics()"
LIBRARY = "from prometheus_client import *"
# Of one process: its samples, without those of the library's own collectors.
SAMPLES = """[
    [sample.name, sorted(sample.labels.items()), sample.value]
    for family in REGISTRY.collect() if not family.name.startswith(("python_", "process_"))
    for sample in family.samples if not sample.name.endswith("_created")
]"""
Samples = dict[str, float]


class Service:
    """A main process and the children that it forks, by name.

    Args:
        prelude: Code that the main process runs first.
        env: Variables, beside those of the test.
        stderr: File of what they log.
    """

    def __init__(self, prelude: str, env: Mapping[str, str], stderr: Path) -> None:
        self.stderr = stderr
        with stderr.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", AGENT, prelude],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                text=True,
            )
        self.pid = self._process.pid

    def _ask(self, who: str, what: str, code: str = "") -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([who, what, code]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log
        answer = json.loads(line)
        assert not (isinstance(answer, dict) and "error" in answer), answer["error"]
        return answer

    def run(self, code: str, who: str = "main") -> Any:
        """Runs code in a process, and returns its value if it's an expression that JSON can hold."""
        return self._ask(who, "run", code)

    def fork(self, who: str, code: str = "") -> int:
        """Forks a child of the main process, which runs code first; returns its id."""
        pid: int = self._ask(who, "fork")
        if code:
            self.run(code, who)
        return pid

    def kill(self, who: str) -> None:
        """Ends a child by SIGKILL."""
        self._ask(who, "kill")

    def samples(self, who: str = "main") -> Samples:
        """The samples of the default registry as a process has them, written as in an exposition."""
        return {written(name, dict(labels)): value for name, labels, value in self.run(SAMPLES, who)}

    @property
    def log(self) -> str:
        """All that the processes have written to stderr."""
        return self.stderr.read_text()

    def end(self) -> None:
        """Ends the main process; its children end with it."""
        self._process.kill()
        self._process.communicate()


def written(name: str, labels: Mapping[str, str]) -> str:
    """A series as an exposition has it."""
    pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{pairs}}}" if pairs else name


@contextmanager
def service(prelude: str, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Service]:
    """A service that ends with the context."""
    running = Service(prelude, env or {}, folder / "stderr")
    try:
        yield running
    finally:
        running.end()
