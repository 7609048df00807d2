"""What the README says is true."""

import re
from pathlib import Path
from typing import Any

import pytest

from stator.collectors.catalog import BUILT_IN
from stator.config import Config
from stator.settings.declare import iter_settings
from stator.settings.table import markdown, rows

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_settings_table_is_the_generated_one() -> None:
    assert markdown(rows(iter_settings(Config, "STTR"))) in README, "to write it anew: make readme"


def test_the_example_collector_collects(tmp_path: Path) -> None:
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class QueueDepth" in code)
    names: dict[str, Any] = {}
    exec(example, names)
    (tmp_path / "a job").touch()
    points_at = names["QueueDepth"](names["QueueDepth"].Config(str(tmp_path))).collect(1.5)
    (point,) = points_at.points
    assert (points_at.name, points_at.stamp, point.name, point.value) == ("queue", 1.5, "depth", 1)


def test_it_leads_to_the_page_of_each_built_in_collector() -> None:
    assert all(f"](docs/collectors/{name}.md)" in README for name in BUILT_IN)


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
        file = page.parent / target if target else page
        assert file.exists()
        assert not anchor or anchor in anchors(file)


def anchors(file: Path) -> set[str]:
    """What a page's headings are linked as."""
    headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("target", re.findall(r"`make (\w+)`", README))
def test_the_make_targets_it_names_exist(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
