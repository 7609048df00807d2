"""Numbers as people read them: 12.3 MiB, 340 ms, 3 min."""

from datetime import UTC, datetime

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SMALL = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (1e-6, 1e6, "µs"))
_LARGE = ((86400, "d"), (3600, "h"), (60, "min"))


def count(number: float) -> str:
    """Returns a whole number with its thousands apart: 12,345."""
    return f"{number:,.0f}"


def size(number: float) -> str:
    """Returns bytes in the largest unit of which there is one: 12.3 MiB."""
    unit = 0
    while abs(number) >= 1023.95 and unit < len(_BYTES) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {_BYTES[unit]}" if unit else f"{number:.0f} B"


def duration(seconds: float) -> str:
    """Returns seconds with three digits: 340 ms, 1.25 s; from a minute on in two units: 3 min 20 s."""
    if seconds >= 60:
        return _in_two_units(round(seconds))
    for least, factor, unit in _SMALL:
        if seconds >= least:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.2g} µs" if seconds > 0 else "0 s"


def moment(unix: float) -> str:
    """Returns a Unix time in UTC: 2026-03-02 09:12:44 UTC."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _in_two_units(seconds: int) -> str:
    parts: list[str] = []
    for length, unit in (*_LARGE, (1, "s")):
        number, seconds = divmod(seconds, length)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
    return " ".join(filter(None, parts[:2]))
