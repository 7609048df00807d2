"""A log that a test can read."""

import json
import os
from pathlib import Path
from typing import Any, Self

from stator.log.logger import Log, LoggerConfig
from stator.log.writer import Sink


class CapturedLog:
    """A log that is written to a file, and what stands in it; as a context, the file is closed in the end.

    Attributes:
        log: What is logged to.
        sink: What writes its lines.
    """

    def __init__(self, path: Path, config: LoggerConfig | None = None, *, terminal: bool = False) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.sink = Sink(self._fd)
        self.log: Log = (config or LoggerConfig(level="debug")).build(self.sink, terminal=terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def text(self) -> str:
        """All that was written."""
        return self._path.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        """The only line."""
        (line,) = self.lines
        return line

    def told(self, msg: str) -> list[dict[str, Any]]:
        """Lines with a message."""
        return [line for line in self.lines if line["msg"] == msg]
