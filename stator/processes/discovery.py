"""Finds memory that the processes of one server share; it has no name in any folder.

A file in memory is gone with the last process that has it open, however that ends. Whoever did not inherit it opens a
relative's, through /proc.
"""

import fcntl
import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stator.processes.memfd import memories
from stator.processes.procfs import Stat

BOOT = Path("/proc/sys/kernel/random/boot_id")
# Seconds between attempts to lock the discovery, and in which one must succeed: the first starts another process.
PAUSE, TIMEOUT = 0.01, 30.0
_FORKSERVER = b"multiprocessing.forkserver"
# struct flock on 64-bit Linux: type, whence, start, length, pid. https://man7.org/linux/man-pages/man2/fcntl.2.html
_LOCK = struct.Struct("hhqqi4x")


def server_pid() -> int:
    """Returns the id of the server's main process, this process's parent if this is a worker; may raise OSError."""
    from multiprocessing.process import parent_process

    own, parent, starter = Stat.of(os.getpid()), _starter(), parent_process()
    # While a spawned process is being unpickled, multiprocessing knows no parent yet.
    is_spawned = (starter is not None and starter.pid == parent) or b"--multiprocessing-fork" in _arguments(os.getpid())
    # A daemon has a session of its own.
    is_worker = (own.is_forked or is_spawned) and own.session == Stat.of(parent).session
    return parent if is_worker else os.getpid()


def run_key() -> str:
    """Returns a text that only a server's main process and its workers have in common; may raise OSError."""
    main = server_pid()
    return f"{BOOT.read_text().strip()} {main} {Stat.of(main).started}"


def _starter() -> int:
    """Returns the parent's id, or that of its parent if multiprocessing has a server that forks in its place."""
    parent = os.getppid()
    with suppress(psutil.Error):
        if _FORKSERVER in b" ".join(_arguments(parent)):
            return psutil.Process(parent).ppid()
    return parent


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def relatives(server: int) -> Iterator[int]:
    """Yields the ids of a server's main process and of all that descend from it, but for this process."""
    yield from (pid for pid in (server, *_descendants(server)) if pid != os.getpid())


def _descendants(server: int) -> Iterator[int]:
    main = psutil.Process(server)
    children = main.children()
    yield from (child.pid for child in children)
    # Most often a child has it; all of them have other parents only if multiprocessing's server has forked them.
    yield from (each.pid for each in main.children(recursive=True) if each not in children)


def open_memory(name: str, pids: Iterable[int]) -> int | None:
    """Opens the memory that one of these processes has under a name; returns None if none has.

    Raises:
        PermissionError: This process has changed its user, and may look into no other.
    """
    for pid in pids:
        # After a change of user /proc hides siblings from this process, and this process from them.
        if Path("/proc/self/fd").stat().st_uid != os.geteuid():
            msg = "can't inspect sibling workers after a change of user (/proc denies it); use gunicorn --preload"
            raise PermissionError(msg)
        for path, found in memories(pid):
            if found == name:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                if os.fstat(fd).st_uid == os.geteuid():
                    return fd
                os.close(fd)
    return None


def memory_names(pids: Iterable[int], prefix: str) -> set[str]:
    """Returns the names that begin with a prefix, of memory that these processes have open."""
    return {name for pid in pids for _, name in memories(pid) if name.startswith(prefix)}


def lock_holder(fd: int, byte: int) -> int | None:
    """Returns the id of another process that has a byte of a file locked, 0 if that can't be seen here, or None."""
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else max(0, pid)


@contextmanager
def discovery_lock(server: int) -> Iterator[int]:
    """Serialises discovery among a server's processes, so that only one of them creates the shared memory.

    Yields a descriptor of the locked folder.
    """
    # Every sibling can flock /proc/<ppid>, and it needs no cleanup.
    fd = os.open(f"/proc/{server}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + TIMEOUT
    try:
        while not _is_locked(fd):
            if time.monotonic() > deadline:
                msg = f"a sibling has locked /proc/{server} for {TIMEOUT:g} seconds"
                raise TimeoutError(msg)
            time.sleep(PAUSE)
        yield fd
    finally:
        os.close(fd)


def _is_locked(fd: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
