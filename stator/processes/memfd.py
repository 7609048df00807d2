"""Files in memory that processes have open: they have names, but lie in no folder.

https://man7.org/linux/man-pages/man2/memfd_create.2.html
"""

import os
from collections.abc import Iterator
from contextlib import suppress

_MEMFD, _DELETED = "/memfd:", " (deleted)"


def memories(pid: int, *, must_look: bool = False) -> Iterator[tuple[str, str]]:
    """Yields the path in /proc and the name of each file in memory that a process has open; none if it's gone.

    None either if it's another user's, or if this process must look into it, PermissionError.
    """
    for path, link in (open_links if must_look else links)(pid):
        if link.startswith(_MEMFD):
            yield path, link.removeprefix(_MEMFD).removesuffix(_DELETED)


def links(pid: int) -> Iterator[tuple[str, str]]:
    """Yields the path and the target of each open file of a process; none if it's gone, or another user's."""
    with suppress(PermissionError):
        yield from open_links(pid)


def open_links(pid: int) -> Iterator[tuple[str, str]]:
    """Does the same, but raises PermissionError if the process is another user's."""
    folder, gone = f"/proc/{pid}/fd", (FileNotFoundError, ProcessLookupError)
    with suppress(*gone):
        for number in os.listdir(folder):  # noqa: PTH208 # pathlib takes three times as long for a host's files
            with suppress(*gone):  # closed meanwhile
                yield f"{folder}/{number}", os.readlink(f"{folder}/{number}")  # noqa: PTH115
