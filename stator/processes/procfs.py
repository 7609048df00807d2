"""What the kernel says of a process, in /proc."""

import os
from pathlib import Path
from typing import NamedTuple
from weakref import finalize

# The kernel's units: CPU ticks per second, bytes per page.
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
# The kernel's PF_FORKNOEXEC: https://github.com/torvalds/linux/blob/master/include/linux/sched.h
_FORKED = 0x40
# Tables of TCP sockets, and the state of one that listens: https://docs.kernel.org/networking/proc_net_tcp.html
_SOCKETS, _LISTENS = ("/proc/net/tcp", "/proc/net/tcp6"), "0A"


def is_listening(port: int) -> bool:
    """Returns whether a process of this network namespace listens at a TCP port."""
    for table in filter(Path.exists, map(Path, _SOCKETS)):
        with table.open() as lines:
            next(lines)
            for line in lines:
                _, address, _, state, _ = line.split(maxsplit=4)
                if state != _LISTENS:
                    break  # those that listen come first, and there may be many others
                if address.endswith(f":{port:04X}"):
                    return True
    return False


class Stat(NamedTuple):
    """Fields of /proc/{pid}/stat: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html.

    CPU times and the start, counted from the boot, are in ticks, mapped memory in bytes, and resident memory in pages.
    """

    state: bytes  # a letter; Z for a zombie
    session: int
    is_forked: bool  # it runs its parent's program, without an exec since
    user: int
    system: int
    reaped: int  # CPU time of its reaped children
    threads: int
    started: int
    virtual: int
    resident: int

    @property
    def is_alive(self) -> bool:
        """Whether it may still run."""
        return self.state not in b"ZX"

    @classmethod
    def of(cls, pid: int) -> "Stat":
        """Reads what the kernel says of a process now."""
        return cls.parse(Path(f"/proc/{pid}/stat").read_bytes())

    @classmethod
    def parse(cls, line: bytes) -> "Stat":
        """Parses a line of /proc/{pid}/stat, in which the process's name may be anything."""
        words = line[line.rindex(b")") + 2 :].split(maxsplit=22)  # the rest is not needed
        user, system, reaped_user, reaped_system = map(int, words[11:15])
        threads, started, virtual, resident = int(words[17]), int(words[19]), int(words[20]), int(words[21])
        session, is_forked, reaped = int(words[3]), bool(int(words[6]) & _FORKED), reaped_user + reaped_system
        return cls(words[0], session, is_forked, user, system, reaped, threads, started, virtual, resident)


class ProcessStat:
    """A process's /proc/{pid}/stat, kept open: reading takes a third of the time, and never reads another process's."""

    def __init__(self, pid: int) -> None:
        self._fds = f"/proc/{pid}/fd"
        self._fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        finalize(self, os.close, self._fd)

    def stat(self) -> Stat:
        """Returns what the kernel says of the process now; raises ProcessLookupError if it's gone."""
        return Stat.parse(os.pread(self._fd, 4096, 0))

    def fds(self) -> int:
        """Returns the number of open file descriptors; 0 if only the process's owner may read it."""
        try:
            # The folder's size since Linux 6.2; before, that is 0.
            return os.stat(self._fds).st_size or len(os.listdir(self._fds))  # noqa: PTH116, PTH208 # as fast as can be
        except PermissionError:
            return 0
