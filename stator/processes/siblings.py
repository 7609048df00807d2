"""How the workers of an embedding server find each other.

Such workers have the same parent and run its program: it forked them, or started them by `multiprocessing`. They
inherit the memory that they share, or find a sibling's.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from mmap import mmap
from weakref import finalize

import psutil

from stator.processes.discovery import discovery_lock, open_memory, relatives, run_key, server_pid
from stator.processes.memfd import memories
from stator.processes.procfs import Stat
from stator.processes.service import COLUMNS, PUBLISHED, Process, ServiceProcesses, weak_callback
from stator.processes.shared_table import SharedTable

WORKERS = 64
ROWS = 2 + WORKERS


class Siblings(ServiceProcesses):
    """The workers of one server and their parent, as each worker sees them; any other process sees itself alone.

    To be created by each worker, or by their parent before it forks them. `failed` is called with what goes wrong.
    """

    def __init__(self, service: str, failed: Callable[[Exception], object]) -> None:
        super().__init__()
        self._failed, self._are_forked = failed, True
        self._fd = self._creator = -1
        self._known_pid = os.getpid()  # of the process for which this was created, or whose at-fork hooks ran
        os.register_at_fork(after_in_child=weak_callback(self._was_forked))
        # None if they have not found each other.
        self.run: str | None = None
        self._attempt(lambda: self._begin(service))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ValueError, IndexError, psutil.Error) as error:
            self._failed(error)

    def _begin(self, service: str) -> None:
        parent, name = server_pid(), _name(service)
        self.run = run_key()
        if parent != os.getpid():
            self._are_forked = Stat.of(os.getpid()).is_forked
            with discovery_lock(parent):
                fd = open_memory(name, (pid for pid in relatives(parent) if pid != parent))
                self._share(os.memfd_create(name) if fd is None else fd, parent)
                self._register_next()
        else:
            self._share(os.memfd_create(name), os.getpid())
            self._creator = os.getpid()

    def _share(self, fd: int, parent: int) -> None:
        # It stays open: siblings find the memory by it, and closing it would unlock the row.
        self._fd = fd
        finalize(self, os.close, fd)
        size, more = SharedTable.size(ROWS, COLUMNS), SharedTable.size(ROWS, PUBLISHED)
        os.ftruncate(fd, size + more)  # it has this size already, unless it is new
        memory = memoryview(mmap(fd, size + more))
        self._table = SharedTable(ROWS, COLUMNS, memory[:size])
        self._published = SharedTable(ROWS, PUBLISHED, memory[size:])
        self._table.write(1, (parent, Stat.of(parent).started, *[0.0] * (COLUMNS - 2)))

    def _was_forked(self) -> None:
        self._known_pid = os.getpid()
        # A child of a worker is no worker.
        if os.getppid() == self._creator:
            self._attempt(self._register_next)

    def snapshot(self) -> list[Process]:
        """Returns all living processes, and zombies; raises OSError if /proc can't be read."""
        if self._known_pid != os.getpid():
            self._known_pid = os.getpid()
            msg = "forked without Python's at-fork hooks; start uWSGI with --py-call-osafterfork or --lazy-apps"
            self._failed(OSError(msg))
        return super().snapshot()

    def _register_next(self) -> None:
        """Registers as the worker of the first row that is not locked."""
        # The kernel unlocks the row of a worker that is killed.
        for number in range(1, WORKERS + 1):
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                continue
            self.rows = ROWS
            self.register("worker", number)
            return
        msg = f"there are {WORKERS} workers already"
        raise OSError(msg)

    def _read(self) -> Iterator[Process]:
        for process in super()._read():
            # A worker that registered and then became another program is none: gunicorn starts its successor like that.
            if process.role != "worker" or process.stat.is_forked == self._are_forked:
                yield process


def _name(service: str) -> str:
    """Returns the memory's name: another for each service, for other columns, and for each `Siblings` of a process."""
    key = hashlib.sha256(repr((service, ROWS, COLUMNS, PUBLISHED)).encode()).hexdigest()[:16]
    own = {name for _, name in memories(os.getpid()) if name.startswith(f"stator-{key}-")}
    return f"stator-{key}-{len(own)}"
