"""Whatever one of the kernel's files says, the groups that do not read it are collected and exposed."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stator.collectors.host.config import GROUPS
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.points import PointsAt
from tests.captured_log import CapturedLog
from tests.collectors.contexts import context
from tests.collectors.host.machine import FILES, hosted, lay_out

# Groups that read a file, by what its path begins with; the first one counts.
READERS = {
    "proc/stat": {"cpu", "stat"},
    "proc/loadavg": {"loadavg"},
    "proc/meminfo": {"meminfo"},
    "proc/vmstat": {"vmstat"},
    "proc/pressure/": {"pressure"},
    "proc/diskstats": {"diskstats"},
    "proc/net/dev": {"netdev"},
    "proc/net/sockstat": {"sockstat"},
    "proc/net/": {"netstat"},
    "proc/1/": {"filesystem"},
    "proc/sys/fs/": {"filefd"},
    "proc/sys/kernel/": {"uname"},
    "sys/devices/system/clocksource/": {"time"},
    "sys/devices/system/cpu/": {"cpu"},
    "sys/block/": {"diskstats"},
    "sys/class/net/": {"netclass", "netdev"},
    "udev/": {"diskstats"},
}
# What is put in place of a part of a file.
PARTS = (
    st.sampled_from(["", " ", "\n", ":", "-1", "0x", "9" * 400, "9" * 5000, "name", "\0", "1 2", "=", "é"]) | st.text()
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out(tmp_path_factory.mktemp("machine"))


def failed(collected: PointsAt) -> set[str]:
    """Groups that could not be collected."""
    successes = (point for point in collected.points if point.name == "scrape_collector_success")
    return {dict(point.labels)["collector"] for point in successes if not point.value}


@given(st.sampled_from(sorted(FILES)), st.floats(0, 1), st.integers(0, 60), PARTS)
@example("proc/net/netstat", 0.5, 500, "")
@example("sys/class/net/eth0/flags", 0.5, 0, "9" * 5000)
def test_a_file_that_is_changed_fails_its_groups_at_most(
    machine: Path, tmp_path_factory: pytest.TempPathFactory, path: str, where: float, length: int, part: str
) -> None:
    text = FILES[path]
    begin = int(where * len(text))
    changed = f"{text[:begin]}{part}{text[begin + length :]}"
    readers = next(groups for beginning, groups in READERS.items() if path.startswith(beginning))
    others = tuple(name for name in GROUPS if name not in readers)
    (machine / path).write_bytes(changed.encode(errors="surrogatepass"))
    try:
        with CapturedLog(tmp_path_factory.mktemp("log") / "log") as log:
            collected = hosted(machine).build(context(log=log.log)).collect(1.0)
            rest = hosted(machine, collectors=others).build(context(log=log.log)).collect(1.0)
    finally:
        (machine / path).write_text(text)
    assert failed(collected) <= readers
    exposed, _ = Encoder(TEXT_0_0_4, timestamps=False).exposition().add_fitting("host", collected)
    assert {point.name for point in rest.points} <= {point.name for point in exposed}
