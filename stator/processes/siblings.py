"""The workers of a server that is not ours: they find each other, though nobody has told them of anything.

Such workers have the same parent, and run its program: they were forked from it, or started by `multiprocessing`. They
share a block of memory that has no name in any folder, so that nothing is left of it however they end. Who was forked
from its maker has it already; others open a sibling's: https://man7.org/linux/man-pages/man2/memfd_create.2.html
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
from stator.processes.service import COLUMNS, Process, ServiceProcesses, while_kept
from stator.processes.shared_table import Table

WORKERS = 64
ROWS = 2 + WORKERS
BOOT = Path("/proc/sys/kernel/random/boot_id")
# Tries to be the only one that looks for the others, and seconds between them.
TRIES, PAUSE = 200, 0.01


class Siblings(ServiceProcesses):
    """The workers of one server and their parent, as each of the workers sees them; any other process sees itself.

    To be made by each worker, or by their parent before it forks them. Workers have numbers from 1, and a row of the
    shared memory each. A lock that is the kernel's tells whose is taken: one that is killed has left. Of the parent
    only that is known what the kernel tells.

    Whatever goes wrong, the process sees itself alone.

    Args:
        service: Name of the service: others with the same parent are no siblings.
        failed: Told why the others can't be seen.
        clock: Seconds that only go up.

    Attributes:
        run: A text that all siblings have, and no others; None where they have not found each other.
    """

    def __init__(
        self, service: str, failed: Callable[[Exception], object], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(clock=clock)
        self._failed = failed
        self._are_forked = True
        self._fd = self._maker = -1
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
            with _turn(parent):
                self._share(_found(name, parent) or _made(name), parent)
                self._enter_next()
            self.run = f"{BOOT.read_text().strip()} {parent} {_stat(parent).started}"
        else:
            self._share(_made(name), os.getpid())
            self._maker = os.getpid()
            os.register_at_fork(after_in_child=while_kept(self._was_forked))

    def _share(self, fd: int, parent: int) -> None:
        # It stays open: it's by this that siblings find it, and a lock is lost with it.
        self._fd = fd
        finalize(self, os.close, fd)
        self._table = Table(ROWS, COLUMNS, mmap(fd, Table.size(ROWS, COLUMNS)))
        self._table.write(1, (parent, _stat(parent).started, *[0.0] * (COLUMNS - 2)))

    def _was_forked(self) -> None:
        # What a worker forks is no worker.
        if os.getppid() == self._maker:
            self._attempt(self._enter_next)

    def _enter_next(self) -> None:
        """Takes the first row that nobody has."""
        for number in range(1, WORKERS + 1):
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                continue
            self.rows = ROWS
            self.enter("worker", number)
            return
        msg = f"there are {WORKERS} workers already"
        raise OSError(msg)

    def _members(self) -> Iterator[Process]:
        for each in super()._members():
            # One that was forked, entered, and then became another program: gunicorn starts its successor like that.
            if each.role != "worker" or each.stat.is_forked == self._are_forked:
                yield each


def _is_worker(own: Stat, parent: int) -> bool:
    """Whether a process with that parent was started to do the same; a daemon's parent is anybody's."""
    from multiprocessing.process import parent_process  # slow to import

    starter = parent_process()
    is_spawned = starter is not None and starter.pid == parent
    return (own.is_forked or is_spawned) and own.session == _stat(parent).session


def _stat(pid: int) -> Stat:
    return Stat.of(Path(f"/proc/{pid}/stat").read_bytes())


def _name(service: str) -> str:
    """What siblings call the memory: another for each time that it's made in a process, another for other columns."""
    told = hashlib.sha256(repr((service, ROWS, COLUMNS)).encode()).hexdigest()[:16]
    own = {link for _, link in _links(os.getpid()) if link.startswith(f"/memfd:stator-{told}-")}
    return f"stator-{told}-{len(own)}"


def _made(name: str) -> int:
    fd = os.memfd_create(name)
    os.ftruncate(fd, Table.size(ROWS, COLUMNS))
    return fd


def _found(name: str, parent: int) -> int | None:
    """The memory of that name that one of a parent's children has, opened.

    Raises:
        PermissionError: Siblings could not see this process either, since it has changed its user.
    """
    if Path("/proc/self").stat().st_uid != os.geteuid():
        msg = "the kernel hides from each other processes that have changed their user; --preload helps"
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
    """The open files of a process, and what each is; none of one that is gone, or another user's."""
    try:
        paths = [str(each) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return
    for path in paths:
        try:
            link = os.readlink(path)  # noqa: PTH115 # it's no path
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
        yield path, link


@contextmanager
def _turn(parent: int) -> Iterator[None]:
    """Lets one of a parent's children after the other look for its siblings: no two are to be the first.

    Raises:
        TimeoutError: Another did not come to an end.
    """
    # What all of them can lock, and what no one has to take away.
    fd = os.open(f"/proc/{parent}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(PAUSE)
        else:
            msg = f"another has locked /proc/{parent} for {TRIES * PAUSE} seconds"
            raise TimeoutError(msg)
        yield
    finally:
        os.close(fd)
