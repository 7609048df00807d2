"""The page's files: ours and those of the plotting library."""

import gzip
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from stator.web.status.assets import read_assets
from tests.program import ROOT, Program

FOLDER = ROOT / "stator/web/status/assets"
# Of the npm package uplot, version 1.6.32: dist/uPlot.iife.min.js, dist/uPlot.min.css and LICENSE.
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
MOST = 60_000  # bytes over the wire, for the page and all of its files
LONGEST = 300  # lines of a script of ours


@pytest.fixture(scope="module")
def stator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program({}, tmp_path_factory.mktemp("stator")) as running:
        yield running


@pytest.mark.parametrize("name", UPLOT)
def test_the_plotting_library_is_as_it_was_published_with_its_licence(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == UPLOT[name]


def test_each_file_is_served_with_its_type(stator: Program) -> None:
    types = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}
    for file in FOLDER.iterdir():
        answer = stator.get(f"/assets/{file.name}")
        assert (answer.status, answer.body) == (200, file.read_bytes())
        assert answer.headers["content-type"].startswith(types[file.suffix[1:]])


@pytest.mark.parametrize(
    "name", ["none.js", "page.html", "..%2Fpage.html", "%2e%2e/page.py", "__init__.py", "page.js/"]
)
def test_nothing_else_is(stator: Program, name: str) -> None:
    assert stator.get(f"/assets/{name}").status == (200 if name == "page.js/" else 404)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_client_that_has_the_file_gets_it_no_second_time(stator: Program, encoding: str) -> None:
    asked = {"Accept-Encoding": encoding}
    answer = stator.get("/assets/page.js", asked)
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    assert re.fullmatch(r'"[\w-]+"', tag)
    again = stator.get("/assets/page.js", {**asked, "If-None-Match": tag})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    other = {"Accept-Encoding": "gzip" if encoding == "identity" else "identity", "If-None-Match": tag}
    assert stator.get("/assets/page.js", other).status == 200


def test_the_page_and_its_files_are_small_over_the_wire(
    stator: Program, record_property: Callable[[str, object], None]
) -> None:
    packed = {"Accept-Encoding": "gzip", "Accept": "text/html"}
    page = stator.get("/", packed)
    assert page.headers["content-encoding"] == "gzip"
    names = set(re.findall(r'(?:href|src)="(assets/[^"]+)"', gzip.decompress(page.body).decode()))
    assert {Path(name).name for name in names} == read_assets().keys() - {"uPlot.LICENSE.txt"}
    total = len(page.body) + sum(len(stator.get(f"/{name}", packed).body) for name in names)
    record_property("bytes over the wire", total)
    assert total <= MOST


def test_our_scripts_are_short_and_ask_nobody_else() -> None:
    for script in FOLDER.glob("*.js"):
        text = script.read_text("utf-8")
        if script.name not in UPLOT:
            assert len(text.splitlines()) < LONGEST, script.name
            assert not re.search(r"\beval\b|new Function|innerHTML =|style=", text)
            assert set(re.findall(r"https?://[\w.]+", text)) <= {"https://prometheus.io"}  # in a comment


def test_they_can_be_read_from_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "stator.zip"
    with ZipFile(archive, "w") as packed:
        for file in (ROOT / "stator").rglob("*"):
            if file.suffix != ".pyc":
                packed.write(file, file.relative_to(ROOT))
    code = """
from stator.web.status import assets, page
assert assets.__file__.startswith({archive!r}), assets.__file__
assert len(assets.read_assets()) == {count}
assert page.Page("", ())
"""
    code = code.format(archive=str(archive), count=len(read_assets()))
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(archive)}, cwd=tmp_path, check=True)
