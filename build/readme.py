"""Writes the settings table into README.md: ``make readme``."""

import re
from pathlib import Path

from stator.config import Config
from stator.settings.declare import iter_settings
from stator.settings.table import markdown, rows

README = Path(__file__).parents[1] / "README.md"
_TABLE = re.compile(r"(?<=<!-- settings: written by `make readme` -->\n).*(?=<!-- /settings -->)", re.DOTALL)


def with_settings(text: str) -> str:
    """Returns the README's text with the current table."""
    return _TABLE.sub(lambda _: markdown(rows(iter_settings(Config, "STTR"))) + "\n", text)


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text("utf-8")), "utf-8")
