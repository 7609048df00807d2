"""The layout is that of docs/architecture.md: packages in layers, and no import upward."""

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
    ("check", "program"),
    ("config",),
    ("server", "roster", "collectors", "instrumentation", "web", "child"),
    ("access", "client", "exporter", "control"),
    ("plugins", "log", "concurrency", "exposition"),
    ("settings", "processes", "version", "points"),
)
# Files beside the packages.
TOP = {"__init__", "__main__", "main", "config", "points", "exporter", "version"}
# HTTP servers, which only the standalone program runs: whoever embeds Stator has one.
SERVERS = {"gunicorn", "uvicorn", "uvicorn_worker"}

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
                inner = names & {*modules}
                yield from inner
                if inner != names:
                    yield node.module


def package(module: str) -> str:
    """The second part of a module's dotted name; empty for `stator` itself."""
    return module.partition(".")[2].partition(".")[0]


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


def server_imports(sources: Mapping[str, str]) -> list[str]:
    """Imports of an HTTP server by what is embedded in applications that have one already."""
    return [
        f"{module} imports {name}"
        for module, source in sources.items()
        if package(module) in ("web", "embedding")
        for node in ast.walk(ast.parse(source))
        for name in _imported_names(node)
        if name.partition(".")[0] in SERVERS
    ]


def _imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


@pytest.fixture(scope="module")
def ours() -> Imports:
    return imports(sources(ROOT))


def test_every_module_has_its_layer(ours: Imports) -> None:
    assert all(layer(module) >= 0 for module in ours)


def test_a_module_imports_only_from_layers_below_its_own(ours: Imports) -> None:
    assert breaches(ours) == []


def test_at_the_top_there_are_only_the_program_its_language_and_packages() -> None:
    assert {file.stem for file in (ROOT / "stator").glob("*.py")} == TOP


def test_a_package_says_in_one_sentence_what_it_holds() -> None:
    for file in (ROOT / "stator").rglob("*/__init__.py"):
        (statement,) = ast.parse(file.read_text()).body
        assert isinstance(statement, ast.Expr)
        text = ast.literal_eval(statement.value)
        assert text.endswith(".")
        assert "\n" not in text


def test_what_is_embedded_imports_no_http_server() -> None:
    assert server_imports(sources(ROOT)) == []


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


def test_an_imported_server_would_be_seen() -> None:
    source = "def f():\n    from uvicorn.config import Config"
    assert server_imports({"stator.web.app": source}) == ["stator.web.app imports uvicorn.config"]


def test_a_cycle_would_be_seen() -> None:
    cycle = imports(
        {
            "stator.server.supervisor": "from stator.server.arbiter import serve",
            "stator.server.arbiter": "from stator.server import supervisor",
        }
    )
    with pytest.raises(CycleError):
        TopologicalSorter(cycle).prepare()
