"""Finds the memory that a server's processes share, or makes it."""

import os
import subprocess
from collections.abc import Callable, Iterator

from stator.instrumentation.layout import NAME, PREFIX, SIZE
from stator.processes.discovery import discovery_lock, lock_holder, memory_names, open_memory, relatives, server_pid
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
        return _make(), server
    with discovery_lock(server) as folder:
        fd = open_memory(NAME, _holders(folder, server))
        if fd is not None:
            return fd, server
        if others := memory_names(_holders(folder, server), PREFIX) - {NAME}:
            warn(f"metrics are not shared with processes of another version of Stator: they have {', '.join(others)}")
        fd = _make()
        try:
            _start_keeper(fd, server)
        except (OSError, subprocess.SubprocessError) as error:
            warn(f"shared metrics are lost whenever no worker lives: {error}")
        return fd, server


def _holders(folder: int, server: int) -> Iterator[int]:
    if keeper := lock_holder(folder, KEPT):
        yield keeper
    yield from relatives(server)


def _make() -> int:
    fd = os.memfd_create(NAME)
    try:
        os.ftruncate(fd, SIZE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _start_keeper(fd: int, server: int) -> None:
    """Starts the process that keeps the memory, and waits until it does."""
    command = [interpreter(), "-I", "-S", "-c", _KEEP, str(fd), str(server), str(KEPT)]
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
