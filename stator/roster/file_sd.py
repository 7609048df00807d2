"""A Prometheus file_sd file as a registrar, for hosts without a discovery service.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import field, frozen

from stator.roster.registrar import Observation, RegistrarError
from stator.roster.service import Service
from stator.settings.declare import setting

# Seconds between two looks at the file.
LOOK_EVERY = 1.0


@frozen
class FileConfig:
    """Where the targets stand."""

    path: str = setting(
        "", desc="where the file registrar writes Prometheus file_sd targets, ex: /etc/targets/stator.json"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """A path that Prometheus would not read, or that can't be written."""
        if not self.path:
            return
        if not self.path.endswith(".json"):
            yield "path", "a path that ends in .json, since Prometheus reads no other as JSON"
        elif reason := _unwritable(Path(self.path)):
            yield "path", f"a path that can be written ({reason})"

    def build(self) -> "File":
        """A registrar that writes the file."""
        return File(Path(self.path))


@frozen
class File:
    """Writes one service as the only target of a file, atomically."""

    path: Path
    _woken: threading.Event = field(factory=threading.Event, eq=False)

    def register(
        self, service: Service, *, keep: bool = True, timeout: float | None = None, level: str = "info"
    ) -> None:
        """Writes the file.

        Raises:
            RegistrarError: It can't be written.
        """
        try:
            _replace(self.path, _content(service))
        except OSError as error:
            msg = f"can't write {self.path}: {error.strerror}"
            raise RegistrarError(msg, "file") from error

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        """Removes the file.

        Raises:
            RegistrarError: It can't be removed.
        """
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            msg = f"can't remove {self.path}: {error.strerror}"
            raise RegistrarError(msg, "file") from error

    def look(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        """What the file holds.

        Args:
            service: What was written.
            since: Mark of an earlier sight: the answer comes when that no longer holds.
            wait: Longest time in seconds to wait for that.

        Raises:
            RegistrarError: The file can't be read.
        """
        deadline = time.monotonic() + wait
        try:
            while (mark := _mark(self.path)) == since and (left := deadline - time.monotonic()) > 0:
                if self._woken.wait(min(left, LOOK_EVERY)):
                    break
            if not mark:
                return Observation("the file is gone")
            return Observation("" if self._holds(_content(service)) else "the file holds something else", mark)
        except OSError as error:
            msg = f"can't read {self.path}: {error.strerror}"
            raise RegistrarError(msg, "file") from error

    def _holds(self, data: bytes) -> bool:
        # No pipe is waited for until somebody writes to it, and no more is read than tells.
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, len(data) + 1) == data
        finally:
            os.close(fd)

    def wake(self) -> None:
        """Has a look that waits come back at once, and every later one."""
        self._woken.set()

    def close(self) -> None:
        """There is nothing to let go of."""


def _mark(path: Path) -> str:
    """What changes with each writing of a file; empty where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ""
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"


def _content(service: Service) -> bytes:
    import orjson  # slow to import

    return orjson.dumps(_targets(service), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _targets(service: Service) -> list[dict[str, Any]]:
    address = f"[{service.address}]" if ":" in service.address else service.address
    labels = {"service": service.name, "service_id": service.id, "tags": f",{','.join(service.tags)},"}
    labels |= {f"meta_{re.sub('[^a-zA-Z0-9_]', '_', key)}": value for key, value in service.meta}
    return [{"targets": [f"{address}:{service.port}"], "labels": labels}]


def _replace(path: Path, data: bytes) -> None:
    from tempfile import NamedTemporaryFile  # slow to import

    # Written in the same folder, so that the last step is a rename: a reader sees the old file or the new one.
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise


def _unwritable(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "it is a folder"
        if not path.parent.is_dir():
            return f"{path.parent} is no folder"
    except OSError as error:  # a name that is too long
        return error.strerror
    return None if os.access(path.parent, os.W_OK | os.X_OK) else f"{path.parent} is not writable"
