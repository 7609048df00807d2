"""A Prometheus file_sd file as a registrar, for hosts without a discovery service."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from attrs import field, frozen

from stator.roster.registrar import Observation, RegistrarError
from stator.roster.service import Service
from stator.settings.declare import setting


@frozen(eq=False, repr=False)
class FileConfig:
    """Where the targets file is."""

    path: str = setting(
        "", desc="where the file registrar writes Prometheus file_sd targets, ex: /etc/targets/stator.json"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields that Prometheus would not read the path, or that it can't be written."""
        if not self.path:
            return
        if not self.path.endswith(".json"):
            yield "path", "a path that ends in .json, since Prometheus reads no other as JSON"
        elif reason := _unwritable(Path(self.path)):
            yield "path", f"a path that can be written ({reason})"

    def build(self) -> "File":
        """Returns a registrar that writes the file."""
        return File(Path(self.path))


@frozen
class File:
    """Writes one service as the only target of a file, atomically; a symbolic link stays, and its target is written."""

    path: Path
    _cancelled: threading.Event = field(factory=threading.Event, eq=False)

    def register(self, service: Service, *, keep_checks: bool = True, level: str = "info") -> None:
        """Writes the file; raises RegistrarError."""
        with self._translated_errors("write"):
            _replace(Path(os.path.realpath(self.path)), _content(service))

    def unregister(self, service: Service, *, timeout: float | None = None) -> None:
        """Removes the file; raises RegistrarError."""
        with self._translated_errors("remove"):
            Path(os.path.realpath(self.path)).unlink(missing_ok=True)

    def observe(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        """Compares the file with what `register` writes; raises RegistrarError."""
        deadline = time.monotonic() + wait
        with self._translated_errors("read"):
            while (version := _version(self.path)) == since and (left := deadline - time.monotonic()) > 0:
                if self._cancelled.wait(min(left, 1.0)):
                    break
            if not version:
                return Observation("the file is gone")
            return Observation("" if self._holds(_content(service)) else "the file holds something else", version)

    def cancel(self) -> None:
        """Makes a blocked `observe` and later ones return immediately. Thread-safe."""
        self._cancelled.set()

    def close(self) -> None:
        """Does nothing: no file is kept open."""

    @contextmanager
    def _translated_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            msg = f"can't {verb} {self.path}: {error.strerror}"
            raise RegistrarError(msg, "file") from error

    def _holds(self, data: bytes) -> bool:
        # Non-blocking, in case it is a pipe; one byte more than expected suffices to see a difference.
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, len(data) + 1) == data
        finally:
            os.close(fd)


def _version(path: Path) -> str:
    """Returns what identifies the file as it was written last; empty if there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ""
    return f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}"


def _content(service: Service) -> bytes:
    # https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
    address = f"[{service.address}]" if ":" in service.address else service.address
    labels = {"service": service.name, "service_id": service.id, "tags": f",{','.join(service.tags)},"}
    if service.metrics_scheme != "http":
        labels["__scheme__"] = service.metrics_scheme
    labels |= {f"meta_{re.sub('[^a-zA-Z0-9_]', '_', key)}": value for key, value in service.meta}
    targets = [{"targets": [f"{address}:{service.metrics_port or service.port}"], "labels": labels}]
    return msgspec.json.format(msgspec.json.encode(targets), indent=2) + b"\n"


def _replace(path: Path, data: bytes) -> None:
    from tempfile import NamedTemporaryFile

    # In the same folder, so that the last step is a rename: a reader sees the old file or the new one.
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
    """Returns why a file can't be written, or None if it can."""
    try:
        target = Path(os.path.realpath(path))
        folder = target.parent
        if target.is_dir():
            return "it is a folder"
        if target.is_symlink():
            return "its symbolic links form a loop"
        if target.exists() and not target.is_file():  # a device or a pipe, which a file would replace
            return "it is no file"
        if not folder.is_dir():
            return f"{folder} is no folder"
    except OSError as error:  # a name that is too long
        return error.strerror
    return None if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is not writable"
