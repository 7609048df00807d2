"""The host collector says what the real node_exporter says, of this host and of one that exists only as files."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stator.collectors.host.config import GROUPS
from tests.collectors.host import stuck
from tests.collectors.host.machine import lay_out
from tests.integration.hosts import differences, told
from tests.integration.programs import NodeExporter
from tests.program import MODULE, Program

# Enough for what goes up and down on a busy host to hold still for a moment.
ROUNDS = 200
ALONE = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@contextmanager
def both(
    tmp_path: Path, env: dict[str, str], *flags: str, groups: tuple[str, ...] = GROUPS
) -> Iterator[tuple[Program, NodeExporter]]:
    """Stator and node_exporter with the same groups."""
    folders = [tmp_path / name for name in ("stator", "node_exporter")]
    for folder in folders:
        folder.mkdir()
    variables = {"STTR_COLLECTORS": "host", "STTR_HOST_COLLECTORS": ",".join(groups), **env}
    with NodeExporter(groups, folders[1], *flags) as peer, Program(variables, folders[0]) as stator:
        stator.wait_for("ready")
        yield stator, peer


def test_it_tells_what_node_exporter_tells_of_this_host(tmp_path: Path) -> None:
    with both(tmp_path, {}) as (stator, peer):
        found = differences(lambda: stator.get("/metrics").body, lambda: peer.get("/metrics"), ROUNDS)
        assert len(told(peer.get("/metrics")).values) > 100
    sys.stdout.write(f"differences to node_exporter: {found}\n")
    assert found == []


def test_it_tells_what_node_exporter_tells_of_a_host_with_everything(tmp_path: Path) -> None:
    machine = lay_out(tmp_path / "machine")
    places = {"PROCFS": "proc", "SYSFS": "sys", "ROOTFS": "rootfs", "UDEV": "udev"}
    env = {f"STTR_HOST_{name}": f"{machine}/{folder}" for name, folder in places.items()}
    flags = [
        *(f"--path.{name}={machine}/{name}" for name in ("procfs", "sysfs", "rootfs")),
        # Asked of the kernel, it would tell of this host's devices.
        *(f"--path.udev.data={machine}/udev", "--no-collector.netdev.netlink"),
    ]
    for name, folder in (("procfs", "proc"), ("sysfs", "sys")):
        (machine / name).symlink_to(folder)
    # Their uname is that of the kernel that really runs.
    groups = tuple(name for name in GROUPS if name != "uname")
    with both(tmp_path, env, *flags, groups=groups) as (stator, peer):
        found = differences(lambda: stator.get("/metrics").body, lambda: peer.get("/metrics"), ROUNDS)
        assert len(told(peer.get("/metrics")).values) > 150
    # What /proc/net/dev does not have, they take from netlink only.
    assert [line for line in found if "node_network_receive_nohandler_total" not in line] == []


def test_a_difference_would_be_seen() -> None:
    ours = b'# TYPE a gauge\na{x="1"} 100\n# TYPE b counter\nb_total 5\n# TYPE c gauge\nc 1\n'
    theirs = b'# TYPE a gauge\na{x="1"} 103\na{x="2"} 1\n# TYPE b counter\nb_total 6\n# TYPE c untyped\nc 1\n'
    assert differences(lambda: ours, lambda: theirs, 3) == [
        "('a', (('x', '1'),)): its value is not as theirs",
        "('b_total', ()): its value is not as theirs",
        "c: its type is gauge, theirs unknown",
        "only theirs: ('a', (('x', '2'),))",
    ]
    assert differences(lambda: ours, lambda: ours.replace(b"100", b"102"), 1) == []


def beside_a_filesystem_that_hangs(folder: Path) -> list[str]:
    """What runs a command beside one; a test that can't have it is skipped, and with CI=true fails."""
    folder.mkdir(parents=True)
    command = [*ALONE, sys.executable, stuck.__file__, str(folder)]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False, timeout=30)
    if tried.returncode:
        reason = f"no filesystem can be made to hang here: {tried.stderr.strip().splitlines()[-1:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return command


def test_a_filesystem_that_hangs_is_told_and_the_rest_served(tmp_path: Path) -> None:
    hung = tmp_path / "hung"
    command = beside_a_filesystem_that_hangs(hung)
    env = {"STTR_COLLECTORS": "host,wave", "STTR_HOST_FILESYSTEM_MOUNTTIMEOUT": "500ms"}
    with Program(env, tmp_path, command=[*command, *MODULE]) as stator:
        stator.wait_for("ready", within=20.0)
        first = told(stator.get("/metrics").body).values
        begin = time.monotonic()
        for _ in range(50):
            values = told(stator.get("/metrics").body).values
        # Waited for each time, it would be half a second each.
        assert time.monotonic() - begin < 20
        labels = {"device": "nothing", "device_error": "mountpoint timeout", "fstype": "fuse.stuck"}
        error = tuple(sorted({**labels, "mountpoint": str(hung)}.items()))
        for each in (first, values):
            assert each["node_filesystem_device_error", error] == 1
            assert ("node_load1", ()) in each
            assert {name for name, _ in each} >= {"node_filesystem_size_bytes", "wave_sine"}
        (line,) = stator.lines("can't read from host")
        assert (line["filesystem"], line["reason"]) == (str(hung), "mountpoint timeout")


def test_a_network_device_that_hangs_is_left_out_and_the_rest_served(tmp_path: Path) -> None:
    machine = lay_out(tmp_path / "machine")
    command = beside_a_filesystem_that_hangs(machine / "sys/class/net/eth9")
    env = {"STTR_COLLECTORS": "host,wave", "STTR_HOST_SYSFS": str(machine / "sys")}
    with Program(env, tmp_path, command=[*command, *MODULE]) as stator:
        stator.wait_for("ready", within=20.0)
        for _ in range(3):
            values = told(stator.get("/metrics").body).values
            up = {
                dict(labels)["device"]: value for (name, labels), value in values.items() if name == "node_network_up"
            }
            assert up == {"eth0": 1, "lo": 0, "usb0": 0}
            assert values["node_scrape_collector_success", (("collector", "netclass"),)] == 1
            assert {name for name, _ in values} >= {"node_load1", "wave_sine"}
        (line,) = [line for line in stator.lines("can't read from host") if "device" in line]
        assert (line["device"], line["reason"]) == ("eth9", "it did not answer in time")
