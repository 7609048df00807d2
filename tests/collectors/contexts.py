"""The context in which collectors are built."""

from typing import Any

from stator.points import CollectorContext


def context(*, processes: Any = None, log: Any = None) -> CollectorContext:
    return CollectorContext("stator", "I90Ltn4", processes, log)
