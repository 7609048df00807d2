"""The pages in docs/collectors/ list what the collectors expose, and nothing else."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stator.collectors.catalog import BUILT_IN
from stator.collectors.host import collector, cpu, disk, filesystem, network, system
from stator.collectors.host.family import Family
from stator.points import family_name
from tests.program import ROOT, Program

PAGES = ROOT / "docs" / "collectors"
OPENMETRICS = {"Accept": "application/openmetrics-text"}
HOST = (collector, cpu, disk, filesystem, network, system)


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text("utf-8") for file in folder.iterdir()}


def listed() -> set[str]:
    """Names of all families of all pages."""
    return {name for text in contents(PAGES).values() for name in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)}


def declared(value: object) -> Iterator[Family]:
    """The families in a module's constant."""
    match value:
        case Family():
            yield value
        case tuple():
            for each in value:
                yield from declared(each)
        case dict():
            yield from declared(tuple(value.values()))


def test_the_pages_are_the_generated_ones(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "build" / "pages.py", tmp_path], check=True)
    assert contents(PAGES) == contents(tmp_path), "to write them again: make docs"


def test_each_built_in_collector_has_a_page_that_the_index_leads_to() -> None:
    links = re.findall(r"^\| \[.*\]\((.*)\)", (PAGES / "README.md").read_text("utf-8"), re.MULTILINE)
    assert links == [*(f"{name}.md" for name in BUILT_IN), "stator.md"]
    assert {*links, "README.md"} == contents(PAGES).keys()


@pytest.mark.parametrize("module", HOST, ids=lambda module: module.__name__)
def test_the_host_has_a_machine_with_all_families_to_tell_of(module: ModuleType) -> None:
    families = set(declared(tuple(vars(module).values())))
    names = {f"{family_name('node', each.name, each.unit)}{'_total' * (each.type == 'counter')}" for each in families}
    assert names
    assert names <= listed()


def test_what_this_machine_exposes_is_on_the_pages(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    env = {
        "STTR_COLLECTORS": ",".join(name for name in BUILT_IN if name != "prometheus_client"),
        "STTR_TEXTFILE_PATHS": str(tmp_path / "texts"),
        "STTR_SCRAPE_TARGETS": "http://127.0.0.1:9",
        "STTR_ROSTER_REGISTRAR": "file",
        "STTR_FILE_PATH": str(tmp_path / "targets.json"),
    }
    with Program(env, tmp_path) as program:
        text = program.get("/metrics", OPENMETRICS).body.decode()
    names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}  # type: ignore[no-untyped-call] # it has no types
    # Which fields there are is up to the kernel.
    assert {name for name in names if not name.startswith(("node_vmstat_", "node_netstat_"))} <= listed()
    assert {"pyrt_info", "process_open_fds", "node_load1", "stator_roster_registered"} <= names
