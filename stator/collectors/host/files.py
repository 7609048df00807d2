"""The kernel's files about the host, as one scrape reads them: each once."""

import os
from collections.abc import Iterable
from contextlib import suppress

from attrs import field, frozen

from stator.processes.procfs import PAGE


@frozen
class Files:
    """The files of one scrape, all of whose groups see the same content. Reading raises an OSError that names one."""

    procfs: str = "/proc"
    sysfs: str = "/sys"
    _contents: dict[str, bytes] = field(factory=dict, init=False)

    def proc(self, path: str) -> bytes:
        """Returns the content of a file below /proc."""
        return self.read(f"{self.procfs}/{path}")

    def sys(self, path: str) -> bytes:
        """Returns the content of a file below /sys."""
        return self.read(f"{self.sysfs}/{path}")

    def read(self, path: str) -> bytes:
        """Returns the content of any file, as it was at the first read."""
        if path not in self._contents:
            try:
                with open(path, "rb", buffering=0) as file:  # noqa: PTH123 # takes two thirds of pathlib's time
                    self._contents[path] = file.readall()
            except OSError as error:
                # The kernel may refuse a file only when it is read, and that error does not name it.
                raise OSError(error.errno, error.strerror, path) from error
        return self._contents[path]

    def attributes(self, folder: str, names: Iterable[str]) -> dict[str, str]:
        """Returns the texts of those files in a folder below /sys that can be read, by name.

        It takes a third of the time that reading each by its path takes.

        Raises:
            OSError: There is no such folder.
        """
        texts: dict[str, str] = {}
        directory = os.open(f"{self.sysfs}/{folder}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                with suppress(OSError):
                    file = os.open(name, os.O_RDONLY, dir_fd=directory)
                    try:
                        # Longer ones can't be: https://docs.kernel.org/filesystems/sysfs.html
                        texts[name] = os.read(file, PAGE).decode(errors="backslashreplace").strip()
                    finally:
                        os.close(file)
        finally:
            os.close(directory)
        return texts

    def has(self, path: str) -> bool:
        """Whether a path below /sys exists."""
        return os.access(f"{self.sysfs}/{path}", os.F_OK)

    def listed(self, path: str) -> list[str]:
        """Returns the names in a folder below /sys, sorted; none where it is missing."""
        try:
            return sorted(os.listdir(f"{self.sysfs}/{path}"))  # noqa: PTH208 # each scrape: a fifth of pathlib's time
        except FileNotFoundError:
            return []
