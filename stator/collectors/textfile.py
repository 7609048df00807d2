"""Families that other programs leave in text files, as node_exporter's textfile collector exposes them.

https://github.com/prometheus/node_exporter#textfile-collector
"""

import glob
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from attrs import frozen

from stator.collectors import _families
from stator.points import Point, PointError, PointsAt
from stator.settings.declare import setting

if TYPE_CHECKING:
    from prometheus_client import Metric

Version: TypeAlias = tuple[int, ...]
"""What tells a file from the same file at another time."""

# Bytes of a file; one of so many takes longer to parse than a scrape waits: what has more was hardly meant for us.
LARGEST = 64 << 20
# The parser gives samples of a counter a name of its own choice; those of a gauge keep theirs.
_COUNTER = re.compile(r'^([ \t]*#[ \t]+TYPE[ \t]+("(?:[^"\\]|\\.)*"|\S+)[ \t]+)counter(?=[ \t\r]*$)', re.MULTILINE)


class Exposition(Protocol):
    """What finds out whether points can be exposed."""

    def add(self, source: str, points_at: PointsAt) -> None:
        """Adds the points of one source to those of others; raises PointError."""


class Log(Protocol):
    """Where files that can't be exposed are told."""

    def error(self, event: str, **fields: Any) -> Any:
        """Logs what happened, with fields."""


@frozen
class TextfileConfig:
    """What a collector of text files can be told."""

    paths: tuple[str, ...] = setting(
        (), desc="folders whose *.prom files are exposed; patterns too, ex: /srv/*/metrics"
    )

    def build(self, exposition: Callable[[], Exposition], log: Log) -> "Textfile":
        """A collector of the files in these folders.

        Args:
            exposition: Makes one without points.
            log: Where files that can't be exposed are told.
        """
        return Textfile(self.paths, exposition, log)


class BadFileError(Exception):
    """A file can't be exposed; the message says why."""


@frozen
class _File:
    """What a file held when it was read.

    Attributes:
        version: Which file, and of when; None where it's to be read again, changed or not.
        modified: When it was written, in whole Unix seconds, as node_exporter tells it.
        points: What it holds.
        reason: Why nothing of it is exposed, or empty.
    """

    version: Version | None
    modified: int = 0
    points: tuple[Point, ...] = ()
    reason: str = ""


class Textfile:
    """Collects what ``*.prom`` files hold; each is read again only when it changed.

    The families are those of the files, and two that tell how these fared, as node_exporter has them. A file that can't
    be exposed fails alone: it's logged, once, and shows in ``node_textfile_scrape_error``.
    """

    def __init__(self, paths: tuple[str, ...], exposition: Callable[[], Exposition], log: Log) -> None:
        self._paths, self._exposition, self._log = paths, exposition, log
        self._read: dict[str, _File] = {}
        self._fit: dict[str, _File] = {}
        self._points: list[Point] = []

    def collect(self, now: float) -> PointsAt:
        """The points of all files that can be exposed."""
        read = {
            path: _File(None, reason=reason) if reason else _read(path, self._read.get(path))
            for path, reason in _found(self._paths).items()
        }
        if read != self._read or not self._points:
            self._read, fit = read, self._fitting(read)
            self._tell(fit)
            self._fit = fit
            self._points = [*(point for file in fit.values() for point in file.points), *_own(fit)]
        return PointsAt("", now, points=self._points)

    def _fitting(self, read: dict[str, _File]) -> dict[str, _File]:
        """The files, those without points that go with neither our own points nor those of the files before."""
        exposition, fit = self._exposition(), {}
        exposition.add("", PointsAt("", 0.0, points=_own(read)))
        for path, file in read.items():
            try:
                exposition.add(path, PointsAt("", 0.0, points=file.points))
                fit[path] = file
            except PointError as error:
                fit[path] = _File(file.version, reason=str(error))
        return fit

    def _tell(self, fit: dict[str, _File]) -> None:
        for path, file in fit.items():
            if file.reason and file != self._fit.get(path):
                self._log.error("failed to read a text file", file=path, reason=file.reason)


def _own(files: dict[str, _File]) -> Iterator[Point]:
    desc = "Unixtime mtime of textfiles successfully read."
    for path, file in files.items():
        if not file.reason:
            labels = (("file", path),)
            yield Point("node_textfile_mtime_seconds", desc, file.modified, unit="seconds", labels=labels)
    failed = any(file.reason for file in files.values())
    desc = "1 if there was an error opening or reading a file, 0 otherwise"
    yield Point("node_textfile_scrape_error", desc, int(failed))


def _found(patterns: tuple[str, ...]) -> dict[str, str]:
    """All files of the folders, and each folder that can't be read with the reason why."""
    found: dict[str, str] = {}
    for pattern in patterns:
        # What matches nothing is a folder that is missing: reading it says so.
        for folder in sorted(glob.glob(pattern, include_hidden=True)) or [pattern]:  # noqa: PTH207 # as it is written
            try:
                names = sorted(os.listdir(folder))  # noqa: PTH208 # a name is all that is needed
            except OSError as error:
                found[folder] = error.strerror or str(error)
            else:
                found |= dict(_named(folder, name) for name in names if name.endswith(".prom"))
    return found


def _named(folder: str, name: str) -> tuple[str, str]:
    """A file's path as it can be shown, and the reason why it can't be read, if so."""
    path = os.path.normpath(f"{folder}/{name}")
    shown = os.fsencode(path).decode(errors="replace")
    return shown, "" if shown == path else "its name is not UTF-8"


def _read(path: str, last: _File | None) -> _File:
    """A file as it is, or what was read the last time where that is the same."""
    try:
        about = os.stat(path)  # noqa: PTH116
        version = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if last is not None and last.version == version:
            return last
        if not stat.S_ISREG(about.st_mode):
            return _File(None, reason="it's no file")
        with Path(path).open("rb") as file:
            # The size that is told may be another, as in /proc, or may have grown.
            data = file.read(LARGEST + 1)
    except OSError as error:
        return _File(None, reason=error.strerror or str(error))
    if len(data) > LARGEST:
        return _File(version, reason=f"it has more than {LARGEST >> 20} MiB")
    try:
        return _File(version, int(about.st_mtime), tuple(parse(data, path)))
    except BadFileError as error:
        return _File(version, reason=str(error))


def parse(data: bytes, path: str) -> list[Point]:
    """The points of a file in Prometheus' text format.

    Args:
        data: What the file holds.
        path: Its name, which stands in for the descriptions that it lacks.

    Raises:
        BadFileError: It's in another format, or has samples with timestamps.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        msg = "it's not UTF-8"
        raise BadFileError(msg) from error
    if text and not text.endswith("\n"):
        msg = "its last line has no end: is it still being written?"
        raise BadFileError(msg)
    return _families.points(_parsed(text, path))


def _parsed(text: str, path: str) -> Iterable["Metric"]:
    from prometheus_client.parser import text_fd_to_metric_families  # slow to import

    counters = {name.strip('"') for _, name in _COUNTER.findall(text)}
    lines = StringIO(_COUNTER.sub(r"\1gauge", text))
    try:
        found = list(text_fd_to_metric_families(lines))
    except (ValueError, LookupError, TypeError) as error:
        msg = f"line {text.count(chr(10), 0, lines.tell())} is not in Prometheus' text format: {error}"
        raise BadFileError(msg.removesuffix(": ")) from error
    whole: dict[str, Metric] = {}
    for family in found:
        if stamped := next((sample.name for sample in family.samples if sample.timestamp is not None), None):
            msg = f"{stamped} has a timestamp, and must have none"
            raise BadFileError(msg)
        # Whoever wrote it may have taken another order in each line.
        family.samples = [each._replace(labels=dict(sorted(each.labels.items()))) for each in family.samples]
        family.type = "counter" if family.name in counters else family.type
        family.documentation = family.documentation or f"Metric read from {path}"
        first = whole.setdefault(family.name, family)
        if first is not family:
            # Its samples don't stand together; those that come later are without its type.
            if family.type not in ("unknown", first.type):
                msg = f"{family.name} is a {first.type} first and a {family.type} later"
                raise BadFileError(msg)
            first.samples += family.samples
    return whole.values()
