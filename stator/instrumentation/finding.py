"""Finds the memory that a server's processes share, or makes it."""

import errno
import os
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

from stator.instrumentation.layout import NAME, PREFIX, SIZE
from stator.processes.discovery import (
    PAUSE,
    TIMEOUT,
    discovery_lock,
    lock_holder,
    memory_names,
    open_memory,
    relatives,
    server_pid,
)
from stator.processes.interpreter import interpreter

# Seconds that the memory's keeper may take to start.
START_TIMEOUT = 15.0
# The byte of the folder /proc/{server} that the process has locked which keeps the memory.
KEPT = 1
# A process that keeps the memory for as long as the server lives: between two workers nobody else might have it.
_KEEP = """
import fcntl, os, select, sys
fd, server, byte = map(int, sys.argv[1:])
if os.fork():
    os._exit(0)
os.chdir("/")
folder = os.open(f"/proc/{server}", os.O_RDONLY)
process = os.pidfd_open(server)
fcntl.lockf(folder, fcntl.LOCK_SH, 1, byte)
for stream in 0, 1, 2:
    os.close(stream)
select.select([process], [], [])
"""


def find_memory(warn: Callable[[str], object]) -> tuple[int, int]:
    """Returns a descriptor of the memory, and the id of the server's main process.

    Raises:
        OSError: There is no memory to be had, or this process may not look into its relatives.
    """
    server = server_pid()
    if server == os.getpid():
        return _make(NAME), server
    with discovery_lock(server) as folder:
        fd = open_memory(NAME, _holders(folder, server))
        if fd is None:
            named = memory_names(_holders(folder, server), PREFIX)
            # That of a group, with a name of its own after this one, is there beside it.
            if others := [name for name in named if name != NAME and not name.startswith(f"{NAME}-")]:
                names = ", ".join(others)
                warn(f"metrics are not shared with processes of another version of Stator: they have {names}")
            fd = _make(NAME)
            _try_keeper(fd, server, KEPT, warn)
        elif lock_holder(folder, KEPT) is None and NAME not in memory_names([server], NAME):  # it was killed
            _try_keeper(fd, server, KEPT, warn)
        return fd, server


def find_group_memory(group: str, warn: Callable[[str], object]) -> tuple[int, int]:
    """Returns a descriptor of the memory of a group, and 0, since no process of it is the main one.

    All processes of this user that name the group have it; it lasts as long as one of them, or its server, lives.

    Raises:
        OSError: There is no memory to be had, or another process looks for it for too long.
    """
    name = f"{NAME}-{group}"
    with _group_lock(group):
        others = (pid for pid in psutil.pids() if pid != os.getpid())
        fd = open_memory(name, others)
        if fd is None:
            fd = _make(name)
        server = server_pid()
        if server != os.getpid():
            byte = KEPT + 1 + zlib.crc32(group.encode()) % 2**20
            with discovery_lock(server) as folder:
                if lock_holder(folder, byte) is None:
                    _try_keeper(fd, server, byte, warn)
    return fd, 0


@contextmanager
def _group_lock(group: str) -> Iterator[None]:
    """Lets one process at a time look for the memory of a group."""
    # An abstract name is in no folder, and is free again when its owner ends: unix(7).
    with socket.socket(socket.AF_UNIX) as lock:
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                lock.bind(f"\0{PREFIX}{os.geteuid()}-{group}")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)
        yield


def _holders(folder: int, server: int) -> Iterator[int]:
    if keeper := lock_holder(folder, KEPT):
        yield keeper
    yield from relatives(server)


def _make(name: str) -> int:
    fd = os.memfd_create(name)
    try:
        os.ftruncate(fd, SIZE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _try_keeper(fd: int, server: int, byte: int, warn: Callable[[str], object]) -> None:
    try:
        _start_keeper(fd, server, byte)
    except (OSError, subprocess.SubprocessError) as error:
        warn(f"shared metrics are lost whenever no worker lives: {error}")


def _start_keeper(fd: int, server: int, byte: int) -> None:
    """Starts the process that keeps the memory, and waits until it does."""
    command = [interpreter(), "-I", "-S", "-c", _KEEP, str(fd), str(server), str(byte)]
    subprocess.run(  # noqa: S603 # our own command
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # until the keeper closes it
        stderr=subprocess.STDOUT,
        pass_fds=[fd],
        start_new_session=True,
        timeout=START_TIMEOUT,
        check=True,
    )
