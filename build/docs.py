"""Writes what the code says into docs/: the page of settings, and the tree of packages. ``make docs``."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from stator.config import Config
from stator.settings.declare import iter_settings
from stator.settings.table import markdown, rows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Headings by the second word of the variables below them; what is not here belongs to a collector.
HEADINGS = {
    "LOGGER": "The log",
    "CLIENT": "Requests to the discovery service",
    "CONSUL": "Consul",
    "ROSTER": "The registration",
    "FILE": "The target file",
    "METRICS": "Scrapes",
    "SERVER": "The server",
}
COLLECTORS = "Collectors"
SETTINGS = """\
# Settings

<!-- written by `make docs` -->

Each setting is an environment variable, or a line `NAME=value` in the file that `--env-file` names; the environment
wins. None is required. Durations are written as in Go (`250ms`, `1m30s`), lists are separated by commas.
[running.md](running.md#configure-it) shows how to check them. [Collectors of your own](plugins.md#settings) may have
more."""
_BEGIN, _END = "<!-- tree: written by `make docs` -->\n", "<!-- /tree -->"
# Column at which a module's sentence begins.
_INDENT, _COLUMN = 4, 28


def settings_page() -> str:
    """The page of all settings, a table for each part."""
    parts: dict[str, list[tuple[str, ...]]] = {}
    for row in rows(iter_settings(Config, "STTR")):
        parts.setdefault(HEADINGS.get(row[0].split("_")[1], COLLECTORS), []).append(row)
    tables = (f"## {heading}\n\n{markdown(of_part)}" for heading, of_part in parts.items())
    return "\n\n".join([SETTINGS, *tables]) + "\n"


def with_tree(text: str) -> str:
    """A page's text with the tree of packages as it is now."""
    before, _, rest = text.partition(_BEGIN)
    tree = "\n".join(_tree(ROOT / "stator", 0))
    return f"{before}{_BEGIN}```text\n{tree}\n```\n{_END}{rest.partition(_END)[2]}"


def _tree(folder: Path, depth: int) -> Iterator[str]:
    yield _line(f"{folder.name}/", folder / "__init__.py", depth)
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield _line(file.name, file, depth + 1)
    for inner in sorted(each.parent for each in folder.glob("*/__init__.py")):
        yield from _tree(inner, depth + 1)


def _line(name: str, file: Path, depth: int) -> str:
    """A module's name, and the first sentence of its docstring."""
    about = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or "").partition("\n\n")[0].replace("\n", " ")
    sentence = re.split(r"(?<=\.)\s", about)[0].replace("``", "")
    return f"{' ' * _INDENT * depth + name:{_COLUMN}} {sentence}".rstrip()


def main(folder: Path) -> None:
    """Writes both pages into a folder."""
    (folder / "settings.md").write_text(settings_page(), "utf-8")
    architecture = (DOCS / "architecture.md").read_text("utf-8")
    (folder / "architecture.md").write_text(with_tree(architecture), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
