"""What the kernel says of a process, in /proc."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stator.processes.memfd import links

# The kernel's units: CPU ticks per second, bytes per page.
TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
# Bytes of the longest line of a stat file, whose 52 numbers have up to 20 digits.
_LONGEST = 4096
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
        """Reads what the kernel says of a process now; raises OSError if it's gone."""
        # Three system calls, where those of `open` are eight: each scrape reads one such file for each process.
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls.parse(os.read(file, _LONGEST))
        finally:
            os.close(file)

    @classmethod
    def parse(cls, line: bytes) -> "Stat":
        """Parses a line of /proc/{pid}/stat, in which the process's name may be anything."""
        words = line[line.rindex(b")") + 2 :].split(maxsplit=22)  # the rest is not needed
        user, system, reaped_user, reaped_system = map(int, words[11:15])
        threads, started, virtual, resident = int(words[17]), int(words[19]), int(words[20]), int(words[21])
        session, is_forked, reaped = int(words[3]), bool(int(words[6]) & _FORKED), reaped_user + reaped_system
        return cls(words[0], session, is_forked, user, system, reaped, threads, started, virtual, resident)


def open_files(pid: int) -> int:
    """Returns the number of a process's open file descriptors; 0 if only its owner may read it."""
    folder = f"/proc/{pid}/fd"
    try:
        # The folder's size since Linux 6.2; before, that is 0.
        return os.stat(folder).st_size or len(os.listdir(folder))  # noqa: PTH116, PTH208 # as fast as can be
    except PermissionError:
        return 0


def listening_ports(pid: int) -> set[int]:
    """Returns the TCP ports on which a process listens; none if it's gone, or another user's."""
    found = set()
    with suppress(OSError):
        sockets = {link for _, link in links(pid) if link.startswith("socket:[")}
        for family in ("tcp", "tcp6"):
            for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENS and f"socket:[{words[9]}]" in sockets:
                    found.add(int(words[1].rpartition(":")[2], 16))
    return found
