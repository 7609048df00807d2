"""What the kernel tells of a process, in /proc."""

import os
from typing import NamedTuple, Self
from weakref import finalize

# The kernel's PF_FORKNOEXEC: https://github.com/torvalds/linux/blob/master/include/linux/sched.h
_FORKED = 0x40
# Of the words behind the name, those that are read, and the rest as one.
_WORDS = 22


class Stat(NamedTuple):
    """What the kernel tells of a process, out of https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html.

    Attributes:
        state: A letter; ``Z`` for one that is dead, but was not waited for.
        session: Its session's id.
        is_forked: Whether it runs the program that it was forked with, and not another.
        user: CPU time in user mode, in ticks.
        system: CPU time in the kernel, in ticks.
        reaped: CPU time of its children that are dead and were waited for, in ticks.
        threads: Number of threads.
        started: Time of its start since the boot, in ticks.
        virtual: Mapped memory in bytes.
        resident: Memory in RAM in pages.
    """

    state: bytes
    session: int
    is_forked: bool
    user: int
    system: int
    reaped: int
    threads: int
    started: int
    virtual: int
    resident: int

    @property
    def is_alive(self) -> bool:
        """Whether it may still run."""
        return self.state not in b"ZX"

    @classmethod
    def of(cls, line: bytes) -> "Stat":
        """What a line of /proc/{pid}/stat says; the process's name in it may be anything."""
        words = line[line.rindex(b")") + 2 :].split(maxsplit=_WORDS)
        user, system, reaped_user, reaped_system = map(int, words[11:15])
        threads, started, virtual, resident = int(words[17]), int(words[19]), int(words[20]), int(words[21])
        session, is_forked, reaped = int(words[3]), bool(int(words[6]) & _FORKED), reaped_user + reaped_system
        return cls(words[0], session, is_forked, user, system, reaped, threads, started, virtual, resident)


class ProcessStat:
    """A process whose /proc/{pid}/stat is kept open: it's read in a third of the time, and never another's."""

    def __init__(self, pid: int) -> None:
        self._fds = f"/proc/{pid}/fd"
        self._fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        self._close = finalize(self, os.close, self._fd)
        self._last: tuple[bytes, Stat] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it."""
        self._close()

    def stat(self) -> Stat:
        """What the kernel tells of it now.

        Raises:
            ProcessLookupError: It's gone.
        """
        line = os.pread(self._fd, 4096, 0)
        # Of most processes it's the same as the last time: they sleep.
        if self._last is None or self._last[0] != line:
            self._last = line, Stat.of(line)
        return self._last[1]

    def fds(self) -> int:
        """Number of its open file descriptors; 0 where the kernel tells only its owner.

        Raises:
            FileNotFoundError: It's gone.
        """
        # Since Linux 6.2 the folder's size; before, that is 0, and the folder has to be listed.
        try:
            return os.stat(self._fds).st_size or len(os.listdir(self._fds))  # noqa: PTH116, PTH208 # as fast as can be
        except PermissionError:
            return 0
