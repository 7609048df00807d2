"""The table of settings, for ``-h`` and the docs."""

import re
from collections.abc import Iterable, Sequence

from stator.settings.declare import FILE_SUFFIX, Setting
from stator.settings.types import setting_type

HEADINGS = ("KEY", "TYPE", "DEFAULT", "REQUIRED", "DESCRIPTION")
WIDEST = 50  # a longer cell widens its own line, and not its column
# What Markdown would take for markup in settings and their defaults, some of which are regular expressions.
_MARKUP = re.compile(r"[\\*<]")


def rows(settings: Iterable[Setting]) -> list[tuple[str, str, str, str, str]]:
    """Returns KEY, TYPE, DEFAULT, REQUIRED and DESCRIPTION of each setting."""
    found = []
    for each in settings:
        type_ = setting_type(each.type)
        default = "" if each.secret else type_.write(each.default)
        desc = f"{each.desc} (or {each.name}{FILE_SUFFIX}: a file that holds it)" if each.secret else each.desc
        found.append((each.name, type_.label, default, "", desc))
    return found


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Returns columns of plain text, as wide as their longest cell that is no wider than `WIDEST`."""
    lines = [HEADINGS, *rows]
    lengths = [[len(line[column]) for line in lines] for column in range(len(HEADINGS) - 1)]
    widths = [max(length for length in column if length <= WIDEST) for column in lengths]
    padded = ("".join(f"{cell:<{width}}  " for cell, width in zip(line, widths, strict=False)) for line in lines)
    return "\n".join(cells + line[-1] for cells, line in zip(padded, lines, strict=True))


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """Returns the same table in Markdown, for a page on which it must look as it does here."""
    return markdown_table(HEADINGS, ([_MARKUP.sub(r"\\\g<0>", cell) for cell in row] for row in rows))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table whose cells are Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
