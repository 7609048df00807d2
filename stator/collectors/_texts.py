"""Reads families out of Prometheus' text format and OpenMetrics, for collectors of what other programs expose."""

import re
from io import StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

# Characters of a line. The parser's time for a label's value grows with the square of its length.
LONGEST_LINE = 1 << 16
# A family's name and its type, either of which may be missing.
_TYPE = re.compile(r'^[ \t]*#[ \t]*TYPE(?:[ \t]+("(?:[^"\\]|\\.)*"|\S+))?(?:[ \t]+(\S+))?(?=[ \t\r]*$)', re.MULTILINE)
_HELP = re.compile(r"^[ \t]*#HELP(?=[ \t])", re.MULTILINE)


class BadTextError(Exception):
    """A text can't be exposed; the message says why."""


def decoded(data: bytes) -> str:
    """Returns a text; raises BadTextError where it's not UTF-8 or ends within a line."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        msg = "it's not UTF-8"
        raise BadTextError(msg) from error
    if text and not text.endswith("\n"):
        msg = "its last line has no end: is it still being written?"
        raise BadTextError(msg)
    if any(len(line) > LONGEST_LINE for line in text.split("\n")):
        msg = f"a line has more than {LONGEST_LINE:,} characters"
        raise BadTextError(msg)
    return text


def text_families(text: str) -> list["Metric"]:
    """Returns the families of Prometheus' text format as Prometheus reads it; raises BadTextError.

    Their samples' names are those of the text, and their labels are sorted.
    """
    from prometheus_client.parser import text_fd_to_metric_families

    counters = {name.strip('"') for name, type_ in _TYPE.findall(text) if type_.lower() == "counter"}
    lines = StringIO(_HELP.sub("# HELP", _TYPE.sub(_as_parsed, text)))
    try:
        found = list(text_fd_to_metric_families(lines))
    except Exception as error:  # of a bad line it raises what comes of it
        raise _bad(text, lines, "Prometheus' text format", error) from error
    whole: dict[str, Metric] = {}
    for family in found:
        _sort_labels(family)
        family.type = "counter" if family.name in counters else family.type
        first = whole.setdefault(family.name, family)
        if first is not family:
            # The family is interrupted by another; its later samples come without a type.
            if family.type not in ("unknown", first.type):
                msg = f"{family.name} is a {first.type} first and a {family.type} later"
                raise BadTextError(msg)
            first.samples += family.samples
    return list(whole.values())


def openmetrics_families(text: str) -> list["Metric"]:
    """Returns the families of OpenMetrics, with sorted labels; raises BadTextError."""
    from prometheus_client.openmetrics.parser import text_fd_to_metric_families

    lines = StringIO(text)
    try:
        families: list[Metric] = list(text_fd_to_metric_families(lines))  # type: ignore[no-untyped-call] # it has no types
    except Exception as error:
        raise _bad(text, lines, "OpenMetrics", error) from error
    for family in families:
        _sort_labels(family)
    return families


def _sort_labels(family: "Metric") -> None:
    # The order of labels may differ from line to line; the parser gives a native histogram without labels None.
    family.samples = [each._replace(labels=dict(sorted((each.labels or {}).items()))) for each in family.samples]
    try:
        for each in family.samples:
            float(each.value or 0)
    except OverflowError as error:
        msg = f"{family.name} has a number that is larger than any that Prometheus reads"
        raise BadTextError(msg) from error


def _bad(text: str, lines: StringIO, format_: str, error: Exception) -> BadTextError:
    msg = f"line {text.count(chr(10), 0, lines.tell())} is not in {format_}: {error}"
    return BadTextError(msg.removesuffix(": "))


def _as_parsed(line: re.Match[str]) -> str:
    """Returns the line of a family's type as the parser takes it: Prometheus' own parser takes more."""
    name, type_ = line.groups()
    if type_ is None:
        return "#"
    # The parser renames a counter's samples, and not a gauge's: counters are parsed as gauges.
    return f"# TYPE {name} {'gauge' if type_.lower() == 'counter' else type_.lower()}"
