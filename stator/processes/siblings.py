"""How the workers of an embedding server find each other.

Such workers have the same parent and run its program: it forked them, or started them by `multiprocessing`. They share
memory without a name in any folder, so that nothing is left of it however they end; they inherit it, or open a
sibling's: https://man7.org/linux/man-pages/man2/memfd_create.2.html
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
        parent, name = os.getppid(), _name(service)
        self.run = run_key()
        if server_pid() == parent:
            self._are_forked = Stat.of(os.getpid()).is_forked
            with _discovery_lock(parent):
                fd = _open(name, parent)
                self._share(os.memfd_create(name) if fd is None else fd, parent)
                self._register_next()
        else:
            self._share(os.memfd_create(name), os.getpid())
            self._creator = os.getpid()

    def _share(self, fd: int, parent: int) -> None:
        # It stays open: siblings find the memory by it, and closing it would unlock the row.
        self._fd = fd
        finalize(self, os.close, fd)
        size = SharedTable.size(ROWS, COLUMNS)
        os.ftruncate(fd, size)  # it has this size already, unless it is new
        self._table = SharedTable(ROWS, COLUMNS, mmap(fd, size))
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


def server_pid() -> int:
    """Returns the id of the server's main process, this process's parent if this is a worker; may raise OSError."""
    from multiprocessing.process import parent_process

    own, parent, starter = Stat.of(os.getpid()), os.getppid(), parent_process()
    runs_its_program = own.is_forked or (starter is not None and starter.pid == parent)
    # A daemon has a session of its own.
    return parent if runs_its_program and own.session == Stat.of(parent).session else os.getpid()


def run_key() -> str:
    """Returns a text that only a server's main process and its workers have in common; may raise OSError."""
    main = server_pid()
    return f"{BOOT.read_text().strip()} {main} {Stat.of(main).started}"


def _name(service: str) -> str:
    """Returns the memory's name: another for each service, for other columns, and for each `Siblings` of a process."""
    key = hashlib.sha256(repr((service, ROWS, COLUMNS)).encode()).hexdigest()[:16]
    own = {link for _, link in _links(os.getpid()) if link.startswith(f"/memfd:stator-{key}-")}
    return f"stator-{key}-{len(own)}"


def _open(name: str, parent: int) -> int | None:
    """Opens the memory that one of a parent's children has under a name; returns None if none has."""
    # After a change of user /proc hides siblings from this process, and this process from them.
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
    gone = FileNotFoundError, ProcessLookupError
    with suppress(*gone, PermissionError):
        for path in list(Path(f"/proc/{pid}/fd").iterdir()):
            with suppress(*gone):  # closed meanwhile
                yield str(path), str(path.readlink())


@contextmanager
def _discovery_lock(parent: int) -> Iterator[None]:
    """Serialises discovery among a parent's children, so that only one of them creates the shared memory."""
    # Every sibling can flock /proc/<ppid>, and it needs no cleanup.
    fd = os.open(f"/proc/{parent}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(PAUSE)
        else:
            msg = f"a sibling has locked /proc/{parent} for {TRIES * PAUSE:g} seconds"
            raise TimeoutError(msg)
        yield
    finally:
        os.close(fd)
