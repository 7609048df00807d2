"""What is published: one file for every platform, the same wherever it is built, with its contents and checksums."""

import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from stator import __version__
from tests.conftest import ROOT

FILES = ("SHA256SUMS", "stator.cdx.json", "stator.pyz")
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
# From the specification of ELF: e_machine of each machine, by Python's name for it.
MACHINES = {"x86_64": 62, "aarch64": 183}
# What is loaded from the C library, in names that glibc and musl do not share.
LIBRARIES = {"gnu": r"libc\.so\.6", "musl": r"libc\.(musl-\w+\.so\.1|so)"}
DT_NEEDED, DT_STRTAB, PT_LOAD, PT_DYNAMIC = 1, 5, 1, 2
EVERY_PLATFORM = pytest.mark.parametrize("libc", LIBRARIES)
EVERY_MACHINE = pytest.mark.parametrize("machine", MACHINES)
EVERY_PYTHON = pytest.mark.parametrize("python", PYTHONS)


def needed(module: bytes) -> list[str]:
    """The libraries that a compiled module asks the dynamic loader for."""
    (table,) = struct.unpack_from("<Q", module, 32)
    size, count = struct.unpack_from("<HH", module, 54)
    headers = [struct.unpack_from("<IIQQQQ", module, table + nth * size) for nth in range(count)]
    loaded = [(address, offset, length) for kind, _, offset, address, _, length in headers if kind == PT_LOAD]
    ((start, length),) = [(offset, length) for kind, _, offset, _, _, length in headers if kind == PT_DYNAMIC]
    entries = list(struct.iter_unpack("<QQ", module[start : start + length]))
    (strings,) = [value for tag, value in entries if tag == DT_STRTAB]
    (text,) = [offset + strings - address for address, offset, length in loaded if 0 <= strings - address < length]
    return [module[text + at :].partition(b"\0")[0].decode() for tag, at in entries if tag == DT_NEEDED]


def test_is_at_most_nine_megabytes(release: Path) -> None:
    assert release.stat().st_size <= 9_000_000


@EVERY_PLATFORM
@EVERY_MACHINE
@EVERY_PYTHON
def test_has_the_compiled_modules_of_each_python_machine_and_libc(
    release: Path, python: str, machine: str, libc: str
) -> None:
    ending = f".cpython-{python.replace('.', '')}-{machine}-linux-{libc}.so"
    with ZipFile(release) as archive:
        modules = {name: archive.read(name) for name in archive.namelist() if name.endswith(ending)}
    assert {name.removeprefix("site-packages/").removesuffix(ending) for name in modules} == {
        "httptools/parser/parser",
        "httptools/parser/url_parser",
        "msgspec/_core",
    }
    for module in modules.values():
        assert module[:6] == b"\x7fELF\x02\x01"
        assert struct.unpack_from("<H", module, 18) == (MACHINES[machine],)
        (libc_name,) = [name for name in needed(module) if name.startswith("libc.")]
        assert re.fullmatch(LIBRARIES[libc], libc_name)


@EVERY_PLATFORM
@EVERY_MACHINE
def test_has_what_is_the_same_for_each_python_once_for_a_machine_and_libc(
    release: Path, machine: str, libc: str
) -> None:
    ending = f".{machine}-linux-{libc}"
    with ZipFile(release) as archive:
        modules = {name: archive.read(name) for name in archive.namelist() if name.endswith(f".abi3.so{ending}")}
    assert {name.removeprefix("site-packages/").removesuffix(ending) for name in modules} == {
        "bcrypt/_bcrypt.abi3.so",
        "psutil/_psutil_linux.abi3.so",
    }
    for module in modules.values():
        assert struct.unpack_from("<H", module, 18) == (MACHINES[machine],)
        (libc_name,) = [name for name in needed(module) if name.startswith("libc.")]
        assert re.fullmatch(LIBRARIES[libc], libc_name)


def test_has_no_compiled_module_that_only_some_platform_could_load_by_chance(release: Path) -> None:
    with ZipFile(release) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".so")]
    assert len(modules) == 3 * len(PYTHONS) * len(MACHINES) * len(LIBRARIES)


def test_the_checksums_are_those_of_the_files(release: Path) -> None:
    lines = (release.parent / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    assert sums.keys() == {"stator.pyz", "stator.cdx.json"}
    for name, digest in sums.items():
        assert hashlib.sha256((release.parent / name).read_bytes()).hexdigest() == digest


def test_the_bill_of_materials_has_each_locked_package_with_its_version_and_license(release: Path) -> None:
    bill = json.loads((release.parent / "stator.cdx.json").read_text("utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    lock = (ROOT / "build/requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", lock, re.MULTILINE))
    by_name = {each["name"].replace("_", "-").lower(): each for each in bill["components"]}
    # The page's plotting library comes from no Python package.
    plots = by_name.pop("uplot")
    script = ROOT / "stator/web/status/assets/uPlot.iife.min.js"
    assert plots["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(script.read_bytes()).hexdigest()}]
    assert f"uPlot (v{plots['version']})" in script.read_text("utf-8")
    assert {name: each["version"] for name, each in by_name.items()} == locked
    assert all(each["licenses"] for each in bill["components"])
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"]) == ("stator-observability", __version__)
    assert own["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(release.read_bytes()).hexdigest()}]

    references = {each["bom-ref"] for each in (own, *bill["components"])}
    edges = {each["ref"]: set(each["dependsOn"]) for each in bill["dependencies"]}
    assert edges.keys() == references
    assert set().union(*edges.values()) == references - {own["bom-ref"]}


@pytest.mark.usefixtures("release")
def test_two_checkouts_of_a_commit_build_the_same_bytes(tmp_path: Path) -> None:
    one, another = tmp_path / "one", tmp_path / "another/in/a/longer/path"
    for checkout, umask in [(one, 0o022), (another, 0o077)]:
        subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True, umask=umask)
        shutil.copytree(ROOT / ".cache/pyz", checkout / ".cache/pyz")
    # The other one installs the wheels for one interpreter anew.
    for folder in (another / ".cache/pyz").glob("3.13-aarch64-linux-musl-*"):
        shutil.rmtree(folder)
    for checkout, umask in [(one, 0o022), (another, 0o077)]:
        subprocess.run([sys.executable, checkout / "build/release.py"], check=True, umask=umask)
    for name in FILES:
        assert (one / "dist" / name).read_bytes() == (another / "dist" / name).read_bytes()
