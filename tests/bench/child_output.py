"""What it costs to log a wrapped program's output as JSON, against a loop that reads and writes JSON."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from stator.child.output import OutputLog
from tests.bench.figures import Figure

LINES, ROUNDS = 100_000, 5


def run() -> Iterator[Figure]:
    """Measures lines that are JSON themselves, and lines of text."""
    with TemporaryDirectory() as folder:
        objects = Path(folder, "objects")
        objects.write_text(
            "".join(
                json.dumps({"level": "info", "msg": f"order {n}", "path": "/orders", "status": 200, "elapsed": n})
                + "\n"
                for n in range(LINES)
            )
        )
        text = Path(folder, "text")
        text.write_text("".join(f"127.0.0.1 - GET /orders/{n} HTTP/1.1 200 {n}\n" for n in range(LINES)))
        for name, file in (("JSON", objects), ("text", text)):
            rounds = [(cpu_of(ours, file), cpu_of(peer, file)) for _ in range(ROUNDS)]
            ratio = median(mine / theirs for mine, theirs in rounds)
            value = f"{ratio:.2f} times the CPU time of json.loads and json.dumps in a loop"
            yield Figure(f"{LINES:,} lines of {name} through STTR_CHILD_LOG=json", value, "0.5 or less")


def cpu_of(function: Callable[[Path], object], file: Path) -> float:
    """CPU seconds of a call."""
    begin = time.process_time()
    function(file)
    return time.process_time() - begin


def ours(file: Path) -> None:
    """The thread that a wrapped program's output goes through; files can't be polled, so that it comes in a pipe."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.dup2(write, 1)
        os.execvp("cat", ["cat", str(file)])
    os.close(write)
    nothing, end = os.pipe()
    os.close(end)
    with Path(os.devnull).open("wb") as null, os.fdopen(read, "rb") as out, os.fdopen(nothing, "rb") as err:
        log = OutputLog(null.fileno(), "stator", "RUN", 999)
        log.start(out, err)
        log.finish()
    os.waitpid(pid, 0)


def peer(file: Path) -> None:
    """What one would write by hand."""
    with file.open() as lines, Path(os.devnull).open("w") as out:
        for line in lines:
            try:
                fields = json.loads(line)
            except ValueError:
                fields = {"msg": line.rstrip("\n")}
            own = {"ts": time.time(), "level": "info", "app_id": "stator", "run_id": "RUN", "stream": "stdout"}
            print(json.dumps({**own, **fields}), file=out)
