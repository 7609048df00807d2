"""What metrics cost that all workers share, beside prometheus_client alone and in its own multiprocess mode."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.figures import Figure

ROOT = Path(__file__).parents[2]
WORKERS, SERIES = 4, 2500

_PRELUDE = {
    "library": "",
    "files": "",
    "shared": "import stator; stator.share_metrics()",
}
_UPDATES = """
import json, time
from prometheus_client import Counter, Gauge, Histogram

hits, depth, took = Counter("hits", "h"), Gauge("depth", "d"), Histogram("took", "t")
asked = Counter("asked", "a", ["method", "path"])


def fastest(act, times=20_000):
    seconds = []
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(times):
            act()
        seconds.append((time.perf_counter() - begin) / times)
    return min(seconds)


idle = fastest(lambda: None)
acts = {
    "inc": lambda: hits.inc(),
    "labels(...).inc": lambda: asked.labels("GET", "/items").inc(),
    "set": lambda: depth.set(3.5),
    "observe": lambda: took.observe(0.3),
}
print(json.dumps({name: fastest(act) - idle for name, act in acts.items()}))
"""
# A quarter are counters and gauges, the rest is of histograms; each worker has all of them.
_SCRAPE = f"""
import json, os, time
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, REGISTRY
from prometheus_client.multiprocess import MultiProcessCollector

counts, depths = Counter("counts", "c", ["path"]), Gauge("depths", "d", ["path"], multiprocess_mode="livesum")
times = Histogram("times", "t", ["path"])
for _ in range({WORKERS}):
    reader, writer = os.pipe()
    if os.fork() == 0:
        for nth in range({SERIES} // 8):
            counts.labels(str(nth)).inc()
            depths.labels(str(nth)).set(nth)
        for nth in range({SERIES} * 3 // 4 // 17):
            times.labels(str(nth)).observe(0.3)
        os.write(writer, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    collectors = [registry]
else:
    collectors = [counts, depths, times]
seconds = []
for _ in range(15):
    begin = time.perf_counter()
    families = [family for collector in collectors for family in collector.collect()]
    seconds.append(time.perf_counter() - begin)
samples = sum(not sample.name.endswith("_created") for family in families for sample in family.samples)
print(json.dumps([min(seconds), samples]), flush=True)
os.killpg(0, 9)
"""
_BYTES = """
import os
from pathlib import Path
from prometheus_client import Counter

counts = Counter("counts", "c", ["method", "path"])
for nth in range(100_000):
    counts.labels("GET", f"/items/{nth}").inc()
file = next(path for path in Path("/proc/self/fd").iterdir() if "memfd:stator-metrics" in os.readlink(path))
print(file.stat().st_blocks * 512)
"""


def run() -> Iterator[Figure]:
    """Measures updates, a scrape, and memory."""
    library, files, shared = (measured(_UPDATES, kind) for kind in ("library", "files", "shared"))
    for name, own in shared.items():
        yield Figure(
            f"{name} of a metric that all workers share",
            f"{own / library[name]:.2f} times what prometheus_client takes in one process, "
            f"{files[name] / own:.1f} times as fast as its multiprocess mode",
            goal="no more than once, 3 times",
            details=f"{own * 1e9:.0f} ns; {library[name] * 1e9:.0f} ns, {files[name] * 1e9:.0f} ns",
        )
    (theirs, count), (mine, _) = measured(_SCRAPE, "files"), measured(_SCRAPE, "shared")
    yield Figure(
        f"{count:,} samples of {WORKERS} workers collected",
        f"{theirs / mine:.1f} times as fast as prometheus_client's MultiProcessCollector",
        goal="10 times",
        details=f"{mine * 1e3:.1f} ms; {theirs * 1e3:.1f} ms",
    )
    yield Figure("shared memory of 100,000 counters", f"{measured(_BYTES, 'shared') / 100_000:.0f} bytes a series")


def measured(code: str, kind: str) -> Any:
    """What code prints as JSON, in a process whose metrics are of a kind."""
    with TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        if kind == "files":
            env["PROMETHEUS_MULTIPROC_DIR"] = folder
        command = [sys.executable, "-c", f"{_PRELUDE[kind]}\n{code}"]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, start_new_session=True, check=False)
        return json.loads(done.stdout)
