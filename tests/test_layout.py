"""The house keeps its floors: a file imports only from those below its own."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).resolve().parents[1]
# From the top; packages of one layer don't import each other.
LAYERS = (
    ("__main__",),
    # What a library's user imports is made of everything but the program.
    ("",),
    ("main", "embedding"),
    ("config",),
    ("server", "roster", "collectors", "web"),
    ("client", "exporter"),
    ("plugins", "log", "concurrency", "exposition"),
    ("settings", "processes", "version", "points"),
)
# Files beside the packages; `_version` is generated.
TOP = {"__init__", "__main__", "main", "config", "points", "exporter", "version", "_version"}
# HTTP servers, which only the standalone program runs: whoever embeds Stator has one.
SERVERS = {"gunicorn", "uvicorn", "uvicorn_worker"}
# Modules that have not moved yet, and where they go.
MOVES = {
    "stator.processes.siblings": "stator.processes.service.siblings",
    "stator.processes.procfs": "stator.processes.service.procfs",
    "stator.processes.shared_table": "stator.processes.service.shared_table",
    "stator.log.render": "stator.log.logger.render",
    "stator.log.writer": "stator.log.logger.writer",
    "stator.log.stdlib": "stator.log.logger.stdlib",
    "stator.log.redact": "stator.log.logger.redact",
    "stator.log.changes": "stator.log.logger.changes",
    "stator.client.transport": "stator.client.client.transport",
    "stator.client.errors": "stator.client.client.errors",
    "stator.client.probe": "stator.client.client.probe",
}

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


def package(module: str) -> str:
    """The second part of a module's dotted name; empty for `stator` itself."""
    return MOVES.get(module, module).partition(".")[2].partition(".")[0].replace("_version", "version")


def layer(module: str) -> int:
    """How far above the ground a module's layer is."""
    (height,) = (height for height, packages in enumerate(reversed(LAYERS)) if package(module) in packages)
    return height


def breaches(imports: Imports) -> list[str]:
    """Imports that lead up, or sideways into another package."""
    return [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if package(module) != package(other) and layer(module) <= layer(other)
    ]


@pytest.fixture(scope="module")
def ours() -> Imports:
    return imports(sources(ROOT))


def test_every_module_has_its_layer(ours: Imports) -> None:
    assert all(layer(module) >= 0 for module in ours)


def test_a_module_imports_only_from_layers_below_its_own(ours: Imports) -> None:
    assert breaches(ours) == []


def test_there_are_no_import_cycles(ours: Imports) -> None:
    TopologicalSorter(ours).prepare()


@pytest.mark.parametrize(
    "source",
    [
        "import stator.server.supervisor",
        "from stator.server import supervisor",
        "from stator.server.supervisor import Supervisor",
        "def f():\n    from stator.server.supervisor import Supervisor",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from stator.server import supervisor",
    ],
)
def test_a_breach_would_be_seen_in_whatever_form_it_comes(source: str) -> None:
    example = {"stator.server": "", "stator.server.supervisor": "", "stator.roster.roster": source}
    assert breaches(imports(example)) == ["stator.roster.roster imports stator.server.supervisor"]


def test_a_cycle_would_be_seen() -> None:
    cycle = imports(
        {
            "stator.server.supervisor": "from stator.server.arbiter import serve",
            "stator.server.arbiter": "from stator.server import supervisor",
        }
    )
    with pytest.raises(CycleError):
        TopologicalSorter(cycle).prepare()
