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

# Routes, each of which is a histogram of 14 buckets.
ROUTES = 2000

_PRELUDE = {
    "library": "",
    "files": "",
    "nothing": """
from prometheus_client import values


class Nothing:
    def __init__(self, *args, **options): pass
    inc = set = set_exemplar = __init__
    get = get_exemplar = lambda self: 0


values.ValueClass = Nothing
""",
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
        begin = time.process_time()
        for _ in range(times):
            act()
        seconds.append((time.process_time() - begin) / times)
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
    begin = time.process_time()
    families = [family for collector in collectors for family in collector.collect()]
    seconds.append(time.process_time() - begin)
samples = sum(not sample.name.endswith("_created") for family in families for sample in family.samples)
print(json.dumps([min(seconds), samples]), flush=True)
os.killpg(0, 9)
"""
# Each worker counts a request by each route; the first time is that of a new one.
_ROUTES = f"""
import json, os, sys, time
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from stator.exporter import BUCKETS
from stator.instrumentation.requests import GAUGES, RequestMetrics
from stator.instrumentation.sharing import process_memory
from stator.instrumentation.store import SharedStore

if "stator" in sys.argv:
    metrics = RequestMetrics(SharedStore(process_memory(), "shop", GAUGES), BUCKETS, 10_000)
    count = lambda nth: metrics.count(("GET", "http", f"/{{nth}}", 200, ""), 0.3)
    collect = lambda: metrics.collect(0.0).points
else:
    took = Histogram("took", "t", ["method", "scheme", "route", "status"], buckets=BUCKETS)
    count = lambda nth: took.labels("GET", "http", f"/{{nth}}", "200").observe(0.3)
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    collect = lambda: list(registry.collect())
for _ in range({WORKERS}):
    reader, writer = os.pipe()
    if os.fork() == 0:
        count("first")
        begin = time.process_time()
        for nth in range({ROUTES}):
            count(nth)
        os.write(writer, json.dumps((time.process_time() - begin) / {ROUTES}).encode())
        time.sleep(60)
        os._exit(0)
    new = json.loads(os.read(reader, 99))
seconds = []
for _ in range(4):
    begin = time.process_time()
    collect()
    seconds.append(time.process_time() - begin)
print(json.dumps([new, seconds[0], min(seconds)]), flush=True)
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
    kinds = ("library", "files", "shared", "nothing")
    library, files, shared, nothing = (measured(_UPDATES, kind) for kind in kinds)
    for name, own in shared.items():
        yield Figure(
            f"{name} of a metric that all workers share",
            f"{own / library[name]:.2f} times what prometheus_client takes in one process, "
            f"{files[name] / own:.1f} times as fast as its multiprocess mode",
            goal="no more than once, 3 times",
            details=f"{own * 1e9:.0f} ns; {library[name] * 1e9:.0f} ns, {files[name] * 1e9:.0f} ns; "
            f"with values that do nothing the library takes {nothing[name] * 1e9:.0f} ns",
        )
    (theirs, count), (mine, _) = measured(_SCRAPE, "files"), measured(_SCRAPE, "shared")
    yield Figure(
        f"{count:,} samples of {WORKERS} workers collected",
        f"{theirs / mine:.1f} times as fast as prometheus_client's MultiProcessCollector",
        goal="10 times",
        details=f"{mine * 1e3:.1f} ms; {theirs * 1e3:.1f} ms",
    )
    library, files, shared = (measured(_ROUTES, kind, kind) for kind in ("library", "files", "stator"))
    yield Figure(
        "the first request by a route, counted in 14 buckets that all workers share",
        f"{shared[0] / library[0]:.2f} times what a new histogram of prometheus_client takes in one process, "
        f"{files[0] / shared[0]:.0f} times as fast as in its multiprocess mode",
        goal="no more than once",
        details=f"{shared[0] * 1e6:.0f} µs; {library[0] * 1e6:.0f} µs, {files[0] * 1e6:.0f} µs",
    )
    yield Figure(
        f"requests by {ROUTES:,} routes of {WORKERS} workers collected",
        f"{files[2] / shared[2]:.0f} times as fast as prometheus_client's MultiProcessCollector",
        goal="10 times",
        details=f"{shared[2] * 1e3:.0f} ms, the first time {shared[1] * 1e3:.0f} ms; {files[2] * 1e3:.0f} ms",
    )
    yield Figure("shared memory of 100,000 counters", f"{measured(_BYTES, 'shared') / 100_000:.0f} bytes a series")


def measured(code: str, kind: str, *arguments: str) -> Any:
    """What code prints as JSON, in a process whose metrics are of a kind."""
    with TemporaryDirectory() as folder:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        if kind == "files":
            env["PROMETHEUS_MULTIPROC_DIR"] = folder
        command = [sys.executable, "-c", f"{_PRELUDE.get(kind, '')}\n{code}", *arguments]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, start_new_session=True, check=False)
        return json.loads(done.stdout)
