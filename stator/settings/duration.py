"""Durations as Go writes them: ``250ms``, ``1m30s``."""

import re
from typing import Self

# Unit names and sizes in nanoseconds: https://pkg.go.dev/time#ParseDuration
UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
LONGEST = 2**63 - 1
_TERM = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>ns|us|µs|μs|ms|s|m|h)")
_ZEROS = re.compile(r"(?:(?<=h)0m)?(?<=m)0s$")


class Duration(int):
    """A length of time in whole nanoseconds, never negative, that parses and prints as Go's ``time.Duration``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses decimal numbers with units, such as ``1h``, ``1m30s`` or ``1.5s``; a bare ``0`` needs no unit.

        Raises:
            ValueError: The text is no duration, is negative, or is longer than Go can hold (292 years).
        """
        if text == "0":
            return cls(0)
        nanoseconds, at = 0, 0
        while at < len(text) or at == 0:
            term = _TERM.match(text, at)
            if term is None or not (term["whole"] or term["fraction"]):
                raise ValueError(text)
            fraction, unit = term["fraction"] or "", UNITS[term["unit"]]
            nanoseconds += int(term["whole"] or 0) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
            at = term.end()
        if nanoseconds > LONGEST:
            raise ValueError(text)
        return cls(nanoseconds)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self / 1e9

    def __str__(self) -> str:
        """Returns the text that Go's ``Duration.String`` returns."""
        for unit in ("ns", "µs", "ms"):
            if self < UNITS[unit] * 1000:
                return f"{_decimal(self, UNITS[unit])}{unit}" if self else "0s"
        minutes, rest = divmod(self, UNITS["m"])
        hours, minutes = divmod(minutes, 60)
        seconds = _decimal(rest, UNITS["s"])
        return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"

    @property
    def brief(self) -> str:
        """The text as a person would write it: ``1m`` for ``1m0s``."""
        return _ZEROS.sub("", str(self))

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


def _decimal(nanoseconds: int, unit: int) -> str:
    whole, rest = divmod(nanoseconds, unit)
    digits = str(rest).zfill(len(str(unit)) - 1).rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)
