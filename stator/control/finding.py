"""The Stators of this host, as `ctl` finds them: by the file in memory that the processes of each have open."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from stator.control.state import NAME, StateError, read_state
from stator.processes.memfd import memories
from stator.processes.procfs import Stat

PROC = Path("/proc")


@define
class Holder:
    """A process of a service. Ids are this process's view; `inner` is the process's own, in a container another."""

    pid: int
    inner: int
    parent: int
    user: int
    caught: int  # masks of the signals that have a handler, and that are ignored: bit n - 1 for signal n
    ignored: int

    @classmethod
    def of(cls, pid: int) -> "Holder":
        """Reads what the kernel says of a process; raises OSError if it's gone."""
        # https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
        lines = (PROC / str(pid) / "status").read_text(errors="replace").splitlines()
        said = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        caught, ignored = (int(said[name][0], 16) for name in ("SigCgt", "SigIgn"))
        inner = int(said.get("NSpid", said["Pid"])[-1])
        return cls(pid, inner, int(said["PPid"][0]), int(said["Uid"][1]), caught, ignored)

    def catches(self, number: int) -> bool:
        """Whether it has a handler for a signal."""
        return bool(self.caught >> (number - 1) & 1)

    def ignores(self, number: int) -> bool:
        """Whether it ignores a signal."""
        return bool(self.ignored >> (number - 1) & 1)


@define
class Service:
    """A service, with what it shows of its state, and all processes that share that."""

    state: dict[str, Any]
    level: int  # the byte of the level, 0 for the configured one
    path: str  # of the state, in /proc
    holders: list[Holder]
    main: int  # the main process, or an application's server
    keeper: dict[str, Any] = field(factory=dict)  # what the keeper of an embedded registration shows

    @property
    def kind(self) -> str:
        """What it is: program, wrapped, embedded, or keeper where an application is only registered."""
        return printable(str(self.state.get("kind")))

    @property
    def is_embedded(self) -> bool:
        """Whether it is part of an application, which has signals of its own."""
        return self.kind not in ("program", "wrapped")

    def text(self, name: str) -> str:
        """Returns a field as text; empty where there is none."""
        value = self.keeper.get(name) or self.state.get(name)
        return printable(value) if isinstance(value, str) else ""

    def port(self, name: str = "port") -> int:
        """Returns a field that is a port; 0 if there is none."""
        value = self.keeper.get(name) or self.state.get(name)
        return value if isinstance(value, int) and 0 < value < 1 << 16 else 0

    def signal(self, name: str) -> int:
        """Returns the number of a signal that it names; 0 if it names none."""
        signals = self.state.get("signals")
        value = signals.get(name) if isinstance(signals, dict) else None
        return value if isinstance(value, int) and 0 < value <= 64 else 0

    def child(self) -> int:
        """Returns the process id of a wrapped program; 0 if there is none, or it's one of another PID namespace."""
        value = self.state.get("child")
        is_ours = any(each.pid == each.inner == self.main for each in self.holders)
        return value if is_ours and isinstance(value, int) and value > 0 else 0

    def workers(self) -> list[int]:
        """Returns the processes that serve, other than those that only start others."""
        own = {each.pid for each in self.holders}
        if self.is_embedded:
            # A child of a worker is none.
            found = [each.pid for each in self.holders if each.parent == self.main or each.parent not in own]
            return sorted(set(found) - {self.main}) or [*({self.main} & own)]
        arbiters = {each.pid for each in self.holders if each.inner == self.state.get("arbiter")}
        return sorted(each.pid for each in self.holders if each.parent in arbiters)


def printable(text: str) -> str:
    """Returns a text of another process without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)


def service_of(pid: int) -> Service | None:
    """Returns the service to which a process belongs; None if it belongs to none.

    Raises:
        OSError: The process is gone (ProcessLookupError), or another user's (PermissionError).
        StateError: Its state can't be read.
    """
    if not (PROC / str(pid)).exists():
        raise ProcessLookupError
    path = next((path for path, name in memories(pid, must_look=True) if name.startswith(NAME)), None)
    if path is None:
        # A server's main process need not run Stator itself.
        return next((each for each in services() if each.main == pid), None)
    same = _inode(path)
    found = [each for each in services(same) if any(holder.pid == pid for holder in each.holders)]
    if not found:
        read_state_at(path)  # says what is wrong with it
        raise ProcessLookupError
    return found[0]


def services(only: tuple[int, int] | None = None) -> list[Service]:
    """Returns all services whose processes this user may look into, or the one that shares a file in memory."""
    paths: dict[tuple[int, int], str] = {}
    holders: dict[tuple[int, int], list[Holder]] = {}
    for pid in sorted(int(name) for name in os.listdir(PROC) if name.isdigit()):  # noqa: PTH208 # pathlib is slower
        with suppress(OSError):
            for inode, path in {_inode(path): path for path, name in memories(pid) if name.startswith(NAME)}.items():
                paths.setdefault(inode, path)
                holders.setdefault(inode, []).append(Holder.of(pid))
    found = []
    for inode, path in paths.items():
        with suppress(OSError, StateError):
            state, level = read_state_at(path)
            found.append(Service(state, level, path, holders[inode], _main(state, holders[inode])))
    return [each for each in _with_keepers(found) if only is None or _inode(each.path) == only]


def read_state_at(path: str) -> tuple[dict[str, Any], int]:
    """Reads the state in a process's open file; raises OSError or StateError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return read_state(fd)
    finally:
        os.close(fd)


def _inode(path: str) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 # pathlib is slower
    return found.st_dev, found.st_ino


def _main(state: dict[str, Any], holders: list[Holder]) -> int:
    """Returns the main process that a state names; of an application, whose server may not run Stator, a parent."""
    for each in holders:
        if each.inner == state.get("pid"):
            return each.pid
    for pid in {each.parent for each in holders}:
        with suppress(OSError, KeyError):
            parent = Holder.of(pid)
            if state.get("pid") in (parent.inner, Holder.of(parent.parent).inner):
                return pid if parent.inner == state.get("pid") else parent.parent
    # A keeper has no relatives. It's in the same PID namespace if that process started when it says.
    with suppress(OSError, TypeError, ValueError):
        if Stat.of(int(state.get("pid", 0))).started == state.get("started"):
            return int(state["pid"])
    return holders[0].pid


def _with_keepers(found: list[Service]) -> list[Service]:
    """Returns the services, each with the registration of its keeper; a keeper alone is one of its own."""
    keepers = [each for each in found if each.kind == "keeper"]
    others = [each for each in found if each.kind != "keeper"]
    for keeper in keepers:
        key = [keeper.state.get(name) for name in ("pid", "started", "service")]
        served = [each for each in others if [each.state.get(name) for name in ("pid", "started", "service")] == key]
        for each in served:
            each.keeper = keeper.state
        if not served:
            others.append(keeper)
    return others
