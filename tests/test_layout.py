"""The house keeps its floors: a file imports only from those below its own."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the top. What stands in one row is one floor; what stands in one entry is one part.
FLOORS = (
    ("stator.__main__",),
    # What a library's user imports is made of everything but the program.
    ("stator",),
    ("stator.embedding",),
    ("stator.config",),
    ("stator.roster", "stator.server"),
    ("stator.client", "stator.exporter"),
    ("stator.log", "stator.headers", "stator.collectors", "stator.formatters"),
    ("stator.launch", "stator.entity", "stator.shared", "stator.build"),
)
# Where lines go, be it to another application's, and what they show is a part of the log; how connections are made is
# of the client, how collectors are asked of the exporter; what processes share are numbers of theirs.
PART_OF = {
    "stator._version": "stator.build",
    "stator.fields": "stator.log",
    "stator.sink": "stator.log",
    "stator.application_log": "stator.log",
    "stator.connections": "stator.client",
    "stator.failures": "stator.client",
    "stator.collection": "stator.exporter",
    "stator.stations": "stator.exporter",
    "stator.processes": "stator.shared",
    "stator.kernel": "stator.shared",
    "stator.siblings": "stator.shared",
}
IMPLEMENTATIONS = ("stator.collectors", "stator.formatters", "stator.roster.registrars")
ROOTS = ("stator.__main__", "stator.config")

Imports: TypeAlias = Mapping[str, frozenset[str]]
"""Modules of ours that each module of ours imports, wherever in its file and for whatever reason."""


def sources(root: Path) -> dict[str, str]:
    """Source text by module's name."""
    files = (file.relative_to(root) for file in (root / "stator").rglob("*.py"))
    return {".".join(file.with_suffix("").parts).removesuffix(".__init__"): (root / file).read_text() for file in files}


def imports(sources: Mapping[str, str]) -> Imports:
    return {module: frozenset(imported(source, sources)) for module, source in sources.items()}


def imported(source: str, modules: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "stator")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            if node.module and node.module.split(".")[0] == "stator":
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                inner = names & {*modules, "stator._version"}
                yield from inner
                if inner != names:
                    yield node.module


def part(module: str) -> str:
    own = ".".join(module.split(".")[:2])
    return PART_OF.get(own, own)


def floor(module: str) -> int:
    """How far above the ground a module's floor is."""
    (height,) = (height for height, parts in enumerate(reversed(FLOORS)) if part(module) in parts)
    return height


def breaches(imports: Imports) -> list[str]:
    """Imports that lead up, or sideways into another part."""
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if part(module) != part(other) and floor(module) <= floor(other)
    ]


def shortcuts(imports: Imports) -> list[str]:
    """Imports of implementations by those who should know none."""
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        for package in IMPLEMENTATIONS
        if other.startswith(package) and not module.startswith(package) and module not in ROOTS
    ]


@pytest.fixture(scope="module")
def house() -> Imports:
    return imports(sources(ROOT))


def test_every_file_has_its_floor(house: Imports) -> None:
    assert all(floor(module) >= 0 for module in house)


def test_a_file_imports_only_from_floors_below_its_own(house: Imports) -> None:
    assert breaches(house) == []


def test_there_are_no_import_circles(house: Imports) -> None:
    TopologicalSorter(house).prepare()


def test_only_the_roots_know_implementations(house: Imports) -> None:
    assert shortcuts(house) == []


@pytest.mark.parametrize(
    "source",
    [
        "import stator.server.app",
        "from stator.server import app",
        "from stator.server.app import create",
        "def f():\n    from stator.server.app import create",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stator.server import app",
    ],
)
def test_a_breach_would_be_seen_in_whatever_form_it_comes(source: str) -> None:
    house = {"stator.server": "", "stator.server.app": "", "stator.roster.roster": source}
    assert breaches(imports(house)) == ["stator.roster.roster imports stator.server.app"]


def test_a_circle_and_a_shortcut_would_be_seen() -> None:
    house = imports(
        {
            "stator.collectors.wave": "",
            "stator.server.app": "from stator.server.inner import x\nfrom stator.collectors.wave import Wave",
            "stator.server.inner": "from stator.server import app",
        }
    )
    assert shortcuts(house) == ["stator.server.app imports stator.collectors.wave"]
    with pytest.raises(CycleError):
        TopologicalSorter(house).prepare()
