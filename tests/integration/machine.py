"""A machine that systemd boots: process 1 of namespaces of its own, with a root that fetch.py has unpacked.

It shares this machine's network. What it writes is gone with it: its files are in memory, and its processes and
mounts end with its namespaces.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

import psutil

from tests.integration.fetch import PEERS
from tests.integration.programs import eventually
from tests.program import cannot

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# What this machine shares with the others, its network above all, can't be changed without these.
SHARED = "-audit_control,-audit_read,-net_admin,-sys_boot,-sys_module,-sys_rawio,-sys_time,-syslog"
# $1 is the unpacked root, $2 an empty folder, and $3 a control group, which the new namespace has as its root.
BOOT = """
set -eu
echo $$ > "$3/cgroup.procs"
exec setpriv --pdeathsig KILL unshare --mount --pid --ipc --uts --cgroup --fork --kill-child --propagation private \
    setpriv --bounding-set "$SHARED" sh -c "$MOUNT_AND_BOOT" machine "$1" "$2"
"""
MOUNT_AND_BOOT = """
set -eu
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
# Most of these settings are those of all machines of this kernel.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/shm dev/pts dev/mqueue
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
for each in null zero full random urandom tty; do
    touch "dev/$each"
    mount --bind "/dev/$each" "dev/$each"
done
echo root:x:0:0:root:/root:/bin/sh > etc/passwd
echo root:x:0: > etc/group
# Without an id it is the first boot, at which all services are enabled.
echo 5f6d617c68696e655f6f665f74657374 > etc/machine-id
ln -s /dev/null etc/systemd/system/ldconfig.service
ln -s /dev/null etc/systemd/system/systemd-modules-load.service
mkdir old
pivot_root . old
umount -l old
exec /usr/lib/systemd/systemd --unit=basic.target --show-status=no
"""


class Machine:
    """A machine, which is up inside the context and gone outside; it takes root on Linux with cgroup v2."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            cannot("only root can boot a machine")
        root = systemd_root()
        self._group = _control_groups() / f"machine-{os.getpid()}-{time.monotonic_ns()}"
        try:
            self._group.mkdir()
        except OSError as error:
            cannot(f"no control group can be made: {error}")
        self._output = self._folder / "output"
        (self._folder / "machine").mkdir()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["sh", "-c", BOOT, "machine", root, self._folder / "machine", self._group],
                env={"PATH": PATH, "MOUNT_AND_BOOT": MOUNT_AND_BOOT, "SHARED": SHARED, "container": "test"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        with ExitStack() as failed:
            failed.callback(self.__exit__)
            try:
                eventually(self._is_up, within=30)
            except TimeoutError:
                cannot(f"systemd does not boot here: {self._output.read_text()}")
            failed.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # and so, by unshare's --kill-child, process 1 and all others of its namespace
        self._process.wait()
        eventually(self._is_removed)

    @property
    def root(self) -> Path:
        """Its root, as it can be reached from outside."""
        return Path(f"/proc/{self._first.pid}/root")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the machine's, to its end."""
        namespaces = ("--mount", "--pid", "--ipc", "--uts", "--cgroup")
        enter = ("nsenter", f"--target={self._first.pid}", *namespaces, "--root", "--wd=/")
        return subprocess.run(
            [*enter, *command], env={"PATH": PATH}, capture_output=True, text=True, check=False, timeout=90
        )

    def systemctl(self, *words: str) -> str:
        """Gives what systemctl prints; it must succeed, or the journal of the service is shown."""
        done = self.run("systemctl", *words)
        assert done.returncode == 0, f"{done.stderr}\n{self.journal()}"
        return done.stdout

    def properties(self, *names: str) -> dict[str, str]:
        """Properties of the service."""
        wanted = [f"--property={name}" for name in names]
        lines = self.systemctl("show", "stator", *wanted).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self) -> str:
        """What the service has printed, and what systemd has said of it."""
        return self.run("journalctl", "--unit=stator", "--output=cat", "--no-pager").stdout

    def processes(self) -> Iterator[psutil.Process]:
        """The service's processes, the main one first, as this machine sees them."""
        (inside,) = self.properties("MainPID").values()
        for process in self._first.children(recursive=True):
            with suppress(psutil.NoSuchProcess, FileNotFoundError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                if f"\nNSpid:\t{process.pid}\t{inside}\n" in status:
                    yield process
                    yield from process.children(recursive=True)

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise TimeoutError
        first = psutil.Process(self._process.pid).children()
        if not first or first[0].name() != "systemd":
            return False
        self._first = first[0]
        return self.run("systemctl", "is-active", "basic.target").stdout == "active\n"

    def _is_removed(self) -> bool:
        """Removes its control groups, which works once all processes have ended."""
        with suppress(OSError):
            for folder, _, _ in os.walk(self._group, topdown=False):
                Path(folder).rmdir()
        return not self._group.exists()


def systemd_root() -> Path:
    """The unpacked root that has systemd."""
    if PEERS["systemd"].find() is None:
        cannot("systemd is not here; to get it: python tests/integration/fetch.py systemd")
    return PEERS["systemd"].folder


def _control_groups() -> Path:
    """Where cgroup v2 is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [Path(place) for _, place, kind, *_ in mounts if kind == "cgroup2"]
    return places[0] if places else cannot("there is no cgroup v2 here")
