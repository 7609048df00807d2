"""The table of settings, for ``-h`` and the README."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from stator.settings.declare import Setting, iter_settings
from stator.settings.types import setting_type

HEADINGS = ("KEY", "TYPE", "DEFAULT", "REQUIRED", "DESCRIPTION")
# A cell that is longer does not widen its column, but its own line.
WIDEST = 50
# What settings and their defaults have, regular expressions among them, that Markdown would not show.
_MARKUP = re.compile(r"[\\*<]")


def rows(config: type[Any], prefix: str) -> list[tuple[str, str, str, str, str]]:
    """KEY, TYPE, DEFAULT, REQUIRED and DESCRIPTION of each setting."""
    return [_row(each) for each in iter_settings(config, prefix)]


def _row(setting: Setting) -> tuple[str, str, str, str, str]:
    kind = setting_type(setting.type)
    default = "" if setting.secret else kind.write(setting.default)
    desc = f"{setting.desc} (or {setting.name}_FILE: a file that holds it)" if setting.secret else setting.desc
    return setting.name, kind.label, default, "", desc


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Columns of plain text, wide enough for what they hold, but for the odd long default."""
    lines = [HEADINGS, *rows]
    lengths = [[len(line[column]) for line in lines] for column in range(len(HEADINGS) - 1)]
    widths = [max(length for length in column if length <= WIDEST) for column in lengths]
    padded = ("".join(f"{cell:<{width}}  " for cell, width in zip(line, widths, strict=False)) for line in lines)
    return "\n".join(cells + line[-1] for cells, line in zip(padded, lines, strict=True))


def markdown(rows: Iterable[tuple[str, ...]]) -> str:
    """The same table for the README and the pages in docs/, where it is read as it stands here."""
    return markdown_table(HEADINGS, ([_MARKUP.sub(r"\\\g<0>", cell) for cell in row] for row in rows))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
