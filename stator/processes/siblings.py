"""How the workers of an embedding server find each other.

Such workers have the same parent and run its program: it forked them, or started them by `multiprocessing`. They share
memory that has no name in any folder, so that nothing is left of it however they end. Processes forked from the one
that created it inherit it; others open a sibling's: https://man7.org/linux/man-pages/man2/memfd_create.2.html
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from weakref import finalize

import psutil

from stator.processes.procfs import Stat
from stator.processes.service import COLUMNS, Process, ServiceProcesses, weak_callback
from stator.processes.shared_table import SharedTable

WORKERS = 64
ROWS = 2 + WORKERS
BOOT = Path("/proc/sys/kernel/random/boot_id")
# Attempts to lock the discovery, and seconds between them.
TRIES, PAUSE = 200, 0.01


class Siblings(ServiceProcesses):
    """The workers of one server and their parent, as each worker sees them; any other process sees itself alone.

    To be created by each worker, or by their parent before it forks them. Each worker has a number from 1, and a row of
    the shared memory, which it locks: the kernel unlocks the row of a worker that is killed. Of the parent only what
    the kernel says is known.

    If anything goes wrong, the process sees itself alone.

    Args:
        service: Name of the service: workers of another service with the same parent are no siblings.
        failed: Called with the error if the siblings can't be seen.
        clock: Seconds that only go up.

    Attributes:
        run: A text that only the siblings have in common; None if they have not found each other.
    """

    def __init__(
        self, service: str, failed: Callable[[Exception], object], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(clock=clock)
        self._failed = failed
        self._are_forked = True
        self._fd = self._creator = -1
        self.run: str | None = None
        self._attempt(lambda: self._begin(service))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ValueError, IndexError, psutil.Error) as error:
            self._failed(error)

    def _begin(self, service: str) -> None:
        own, parent = _stat(os.getpid()), os.getppid()
        name = _name(service)
        if _is_worker(own, parent):
            self._are_forked = own.is_forked
            with _discovery_lock(parent):
                self._share(_open(name, parent) or _create(name), parent)
                self._register_next()
            self.run = f"{BOOT.read_text().strip()} {parent} {_stat(parent).started}"
        else:
            self._share(_create(name), os.getpid())
            self._creator = os.getpid()
            os.register_at_fork(after_in_child=weak_callback(self._was_forked))

    def _share(self, fd: int, parent: int) -> None:
        # It stays open: siblings find the memory by it, and closing it would unlock the row.
        self._fd = fd
        finalize(self, os.close, fd)
        self._table = SharedTable(ROWS, COLUMNS, mmap(fd, SharedTable.size(ROWS, COLUMNS)))
        self._table.write(1, (parent, _stat(parent).started, *[0.0] * (COLUMNS - 2)))

    def _was_forked(self) -> None:
        # A child of a worker is no worker.
        if os.getppid() == self._creator:
            self._attempt(self._register_next)

    def _register_next(self) -> None:
        """Registers as the worker of the first row that is not locked."""
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


def _is_worker(own: Stat, parent: int) -> bool:
    """Whether a process runs its parent's program in its parent's session; a daemon has one of its own."""
    from multiprocessing.process import parent_process

    starter = parent_process()
    is_spawned = starter is not None and starter.pid == parent
    return (own.is_forked or is_spawned) and own.session == _stat(parent).session


def _stat(pid: int) -> Stat:
    return Stat.parse(Path(f"/proc/{pid}/stat").read_bytes())


def _name(service: str) -> str:
    """Returns the memory's name: another for each service, for other columns, and for each `Siblings` of a process."""
    key = hashlib.sha256(repr((service, ROWS, COLUMNS)).encode()).hexdigest()[:16]
    own = {link for _, link in _links(os.getpid()) if link.startswith(f"/memfd:stator-{key}-")}
    return f"stator-{key}-{len(own)}"


def _create(name: str) -> int:
    fd = os.memfd_create(name)
    os.ftruncate(fd, SharedTable.size(ROWS, COLUMNS))
    return fd


def _open(name: str, parent: int) -> int | None:
    """Opens the memory that one of a parent's children has under a name; returns None if none has.

    Raises:
        PermissionError: This process has changed its user, so that /proc hides siblings from it, and it from them.
    """
    if Path("/proc/self").stat().st_uid != os.geteuid():
        msg = "can't inspect sibling workers after a change of user (/proc denies it); use gunicorn --preload"
        raise PermissionError(msg)
    for sibling in psutil.Process(parent).children():
        for path, link in _links(sibling.pid) if sibling.pid != os.getpid() else ():
            if link == f"/memfd:{name} (deleted)":
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                if os.fstat(fd).st_uid == os.geteuid():
                    return fd
                os.close(fd)
    return None


def _links(pid: int) -> Iterator[tuple[str, str]]:
    """Yields the path and the target of each open file of a process; none if it's gone, or another user's."""
    try:
        paths = [str(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for path in paths:
        try:
            link = os.readlink(path)  # noqa: PTH115 # the target is no path
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        yield path, link


@contextmanager
def _discovery_lock(parent: int) -> Iterator[None]:
    """Serialises discovery among a parent's children, so that only one of them creates the shared memory.

    Raises:
        TimeoutError: A sibling has held the lock for too long.
    """
    # Every sibling can flock /proc/<ppid>, and it needs no cleanup.
    fd = os.open(f"/proc/{parent}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(PAUSE)
        else:
            msg = f"a sibling has locked /proc/{parent} for {TRIES * PAUSE:g} seconds"
            raise TimeoutError(msg)
        yield
    finally:
        os.close(fd)
