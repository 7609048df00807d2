"""Families that other programs leave in text files, exposed as node_exporter's textfile collector does."""

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from stator.collectors import _families
from stator.collectors._texts import BadTextError, decoded, text_families
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.log.changes import ChangeLog
from stator.points import CollectorContext, Point, PointError, PointsAt
from stator.settings.declare import setting

# Longest file in bytes. One of this size takes longer to parse than a scrape waits: a longer one is a mistake.
LARGEST = 64 << 20


@frozen(eq=False, repr=False)
class TextfileConfig:
    """Settings of the `textfile` collector."""

    paths: tuple[str, ...] = setting(
        (), desc="folders whose *.prom files are exposed; patterns too, ex: /srv/*/metrics"
    )

    def build(self, context: CollectorContext) -> "Textfile":
        """Returns a collector of the files in these folders."""
        failed, recovered = "failed to read a text file", "can read a text file again"
        return Textfile(self.paths, ChangeLog(context.log, "file", failed, recovered, level="error"))


@frozen
class _File:
    """The content of a file when it was read."""

    version: tuple[int, ...] = ()  # which file at which time; empty if it must be read again even where it is the same
    modified: int = 0  # in whole Unix seconds, as node_exporter reports it
    points: tuple[Point, ...] = ()
    reason: str = ""  # why no point of it is exposed


class Textfile:
    """Reports what ``*.prom`` files hold; each is read again only when it has changed.

    The families are those of the files, and the two that node_exporter adds about the files. A file that can't be
    exposed fails alone: it's logged, once, and counts in ``node_textfile_scrape_error``. The values of ``le`` and
    ``quantile`` stay as the file has them, except in OpenMetrics, which wants ``1.0`` in place of ``1``.

    Args:
        paths: Folders, or patterns of folders.
        changes: Logs which files can't be exposed.
    """

    def __init__(self, paths: tuple[str, ...], changes: ChangeLog) -> None:
        self._paths, self._changes = paths, changes
        self._read: dict[str, _File] = {}
        self._points: list[Point] = []

    def collect(self, now: float) -> PointsAt:
        """Returns the points of all files that can be exposed."""
        read = {
            path: _File(reason=reason) if reason else _read(path, self._read.get(path))
            for path, reason in _found(self._paths).items()
        }
        if read != self._read or not self._points:
            self._read, files = read, _without_conflicts(read)
            self._changes.update({path: file.reason for path, file in files.items() if file.reason})
            self._points = [*(point for file in files.values() for point in file.points), *_own(files)]
        return PointsAt("", now, points=self._points)


def _without_conflicts(read: dict[str, _File]) -> dict[str, _File]:
    """Returns the files, with the points of those that conflict with ours or with earlier files removed."""
    exposition, files = Encoder(TEXT_0_0_4, timestamps=False).exposition(), {}
    exposition.add("", PointsAt("", 0.0, points=_own(read)))
    for path, file in read.items():
        try:
            exposition.add(path, PointsAt("", 0.0, points=file.points))
            files[path] = file
        except PointError as error:
            files[path] = _File(file.version, reason=str(error))
    return files


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
    """Returns the files of all folders, with the reason for each, and each folder, that can't be read."""
    found: dict[str, str] = {}
    for pattern in patterns:
        # A pattern that matches nothing is taken for a missing folder: listing it gives the reason.
        for folder in sorted(glob.glob(pattern, include_hidden=True)) or [pattern]:  # noqa: PTH207 # as it is written
            try:
                names = sorted(os.listdir(folder))  # noqa: PTH208 # only the names are needed
            except OSError as error:
                found[folder] = error.strerror or str(error)
                continue
            for path in (os.path.normpath(f"{folder}/{name}") for name in names if name.endswith(".prom")):
                printable = os.fsencode(path).decode(errors="replace")
                found[printable] = "" if printable == path else "its name is not UTF-8"
    return found


def _read(path: str, last: _File | None) -> _File:
    """Returns a file's content, without reading it where it is the last version still."""
    version: tuple[int, ...] = ()
    try:
        about = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(about.st_mode):
            return _File(reason="it's no file")
        version = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if last is not None and last.version == version:
            return last
        with Path(path).open("rb") as file:
            # Not by the size in its status: that may be wrong, as in /proc, or the file may have grown.
            data = file.read(LARGEST + 1)
        return _File(version, int(about.st_mtime), tuple(parse(data, path)))
    except OSError as error:
        return _File(reason=error.strerror or str(error))
    except BadTextError as error:
        return _File(version, reason=str(error))


def parse(data: bytes, path: str) -> list[Point]:
    """Parses a file in Prometheus' text format, or raises BadTextError; the path is for descriptions that it lacks."""
    if len(data) > LARGEST:
        msg = f"it has more than {LARGEST >> 20} MiB"
        raise BadTextError(msg)
    families = text_families(decoded(data))
    for family in families:
        if stamped := next((sample.name for sample in family.samples if sample.timestamp is not None), None):
            msg = f"{stamped} has a timestamp, and must have none"
            raise BadTextError(msg)
        family.documentation = family.documentation or f"Metric read from {path}"
    return _families.points(families)
