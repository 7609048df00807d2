"""What README and docs/ say is true: their examples run, their links lead somewhere, their tables are complete."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stator.collectors.catalog import BUILT_IN
from stator.collectors.scrape import ScrapeConfig
from stator.config import Config
from stator.exporter import Exporter, MetricsConfig, ScrapeRequest
from stator.exposition.encoder import Encoder
from stator.exposition.text import TEXT_0_0_4
from stator.log.logger import Log
from stator.settings.declare import iter_settings, variables_of
from tests.captured_log import CapturedLog
from tests.test_layout import LAYERS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "examples/README.md", ROOT / "SECURITY.md"]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
# Settings that stand for those of a plugin.
EXAMPLES = {"STTR_QUEUE_DEPTH_FOLDER", "STTR_COLECTORS", "STTR_SERVER_WORKER"}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(page, language, text) for language, text in found]


BLOCKS = [block for page in PAGES for block in blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


def title(block: Block) -> str:
    return f"{block.page.name}: {block.text.splitlines()[0].removeprefix('# ')[:40]}"


def test_the_readme_is_short_and_shows_embedding_within_the_first_screen() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 120
    assert "## Embed it" in lines[:40]
    assert any("asgi_app(app)" in line for line in lines[:42])


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), {README}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead |= {file for file, _ in links(page) if file.suffix == ".md"} - reached
    assert set(PAGES) <= reached


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Files that a page's links lead to, and headings in them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        yield (page.parent / target).resolve() if target else page, anchor


@EVERY_PAGE
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), file
        assert not anchor or anchor in anchors(file), f"{file}#{anchor}"


def anchors(file: Path) -> set[str]:
    """What a page's headings are linked as."""
    headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@EVERY_PAGE
def test_the_make_targets_it_names_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:`|^)make (\w+)", page.read_text("utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@EVERY_PAGE
def test_the_settings_it_names_exist(page: Path) -> None:
    known = {*variables_of(iter_settings(Config, "STTR")), *EXAMPLES}
    for name in re.findall(r"STTR_[A-Z_]+", page.read_text("utf-8")):
        # A name that ends in an underscore stands for all that begin so.
        assert name in known or (name[-1] == "_" and any(each.startswith(name) for each in known)), name


def test_the_page_of_settings_and_the_tree_are_the_generated_ones(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "build/docs.py", tmp_path], check=True)
    for fresh in tmp_path.iterdir():
        assert (ROOT / "docs" / fresh.name).read_text("utf-8") == fresh.read_text("utf-8"), "to write it: make docs"


def test_every_built_in_collector_has_a_page_that_the_readme_leads_to() -> None:
    reached = {file for file, _ in links(README)}
    assert {ROOT / f"docs/collectors/{name}.md" for name in BUILT_IN} <= reached


def test_the_layers_are_those_that_the_layout_is_tested_with() -> None:
    (text,) = (block.text for block in BLOCKS if block.language == "mermaid" and "__main__" in block.text)
    drawn = [tuple(label.split(" · ")) for label in re.findall(r'\w\["(.*?)"\]', text)]
    assert drawn == [tuple(name or "stator (public names)" for name in layer) for layer in LAYERS]


def test_the_places_for_changes_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    (table,) = re.findall(r"^## Where a change goes\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    places = re.findall(r"`([a-z_/]+(?:/|\.py))`", table)
    assert len(places) > 10
    for place in places:
        assert any((folder / place).exists() for folder in (ROOT, ROOT / "stator")), place


@pytest.mark.parametrize("block", PYTHON, ids=title)
def test_python_compiles(block: Block) -> None:
    compile(block.text, block.page.name, "exec")


def collectors() -> Iterator[Any]:
    """Examples of collectors, each with what the page shows that it exposes, if it does."""
    for page in PAGES:
        of_page = blocks(page)
        for nth, block in enumerate(of_page):
            if block.language == "python" and "def collect(" in block.text:
                shown = next((each for each in of_page[nth + 1 :] if each.language in ("python", "text")), None)
                exposed = shown.text if shown and shown.language == "text" else ""
                yield pytest.param(block.text, exposed, id=title(block))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with CapturedLog(tmp_path / "log") as captured:
        yield captured.log


@pytest.mark.parametrize(("code", "exposed"), list(collectors()))
def test_a_collector_exposes_what_the_page_shows(code: str, exposed: str, tmp_path: Path, log: Log) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    for nth in range(3):
        (jobs / str(nth)).touch()
    text = expose(code.replace("/var/spool/jobs", str(jobs)), log)
    assert not re.search(r"^stator_collector_success.* 0$", text, re.MULTILINE)
    assert exposed in text


def expose(code: str, log: Log) -> str:
    """A scrape of the last collector that some code defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    class_ = [names[node.name] for node in ast.parse(code).body if isinstance(node, ast.ClassDef)][-1]
    collector = class_(class_.Config()) if hasattr(class_, "Config") else class_()
    exporter = Exporter({"example": collector}, MetricsConfig(), (), log)
    return exporter.scrape(ScrapeRequest(Encoder(TEXT_0_0_4, timestamps=False))).body.decode()


def messages() -> list[str]:
    """What the tables of symptoms quote, without what stands for something else."""
    text = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    symptoms = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return [quoted for symptom in symptoms for quoted in re.findall("`([^`]+)`", symptom)]


# Words of the operating system and of HTTP, which the code does not have.
FOREIGN = (
    *("Address already in use", "Permission denied", "Cannot assign requested address", "Connection refused"),
    "Watchdog timeout",
)
NO_MESSAGES = ("*.prom", "x", "/metrics?collect[]=x")


def test_the_example_of_targets_options_can_be_read(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    (text,) = [block.text for block in BLOCKS if block.language == "toml" and "basic_auth" in block.text]
    (targets,) = [
        tuple(found[1].split(","))
        for block in BLOCKS
        if (found := re.search("^STTR_SCRAPE_TARGETS=(.*)$", block.text, re.MULTILINE))
    ]
    (tmp_path / "targets.toml").write_text(text)
    (tmp_path / "shop.password").write_text("secret")
    (tmp_path / "ca.pem").symlink_to(certificate[0])
    assert not [*ScrapeConfig(targets, config_file=str(tmp_path / "targets.toml")).problems()]
    assert text.count("\n[") == len(targets) - 1


@pytest.mark.parametrize("message", messages())
def test_a_symptom_is_a_message_of_the_code(message: str) -> None:
    if message in NO_MESSAGES:
        return
    files = [*(ROOT / "stator").rglob("*.py"), ROOT / "build/bootstrap_main.py"]
    texts = "\0".join(text for file in files for text in literals(file))
    for part in message.split("…"):
        assert part.strip() in texts or any(foreign in part for foreign in FOREIGN), part


def literals(file: Path) -> Iterator[str]:
    """All texts in a module, those between the gaps of f-strings too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
