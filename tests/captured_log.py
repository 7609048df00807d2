"""A log that a test can read."""

import json
import os
from pathlib import Path
from typing import Any, Self

from stator.log.logger import Log, LoggerConfig
from stator.log.writer import Sink
from stator.settings.masking import KnownSecrets


class CapturedLog:
    """A log that writes to a file, and the lines of that file; leaving its context closes the file.

    Attributes:
        log: The logger.
        sink: The sink that writes its lines.
    """

    def __init__(
        self,
        path: Path,
        config: LoggerConfig | None = None,
        *,
        terminal: bool = False,
        secrets: KnownSecrets | None = None,
    ) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.sink = Sink(self._fd)
        self.log: Log = (config or LoggerConfig(level="debug")).build(self.sink, terminal=terminal, secrets=secrets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @property
    def text(self) -> str:
        """The text of the file."""
        return self._path.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines, decoded."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        """The only line, decoded."""
        (line,) = self.lines
        return line

    def lines_with(self, msg: str) -> list[dict[str, Any]]:
        """Returns the lines with a message."""
        return [line for line in self.lines if line["msg"] == msg]

    told = lines_with
