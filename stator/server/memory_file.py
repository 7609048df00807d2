"""Files in memory, for what takes nothing but paths."""

import os


class MemoryFile:
    """A file in memory, which has a path in this process and those forked from it, for as long as this object lives.

    `name` says for a reader where its text comes from.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name, self._fd = name, os.memfd_create("stator")
        with os.fdopen(os.dup(self._fd), "wb") as file:
            file.write(text.encode())
        self.path = f"/proc/self/fd/{self._fd}"

    def __del__(self) -> None:
        os.close(self._fd)
