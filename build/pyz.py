"""Makes dist/stator.pyz: one file for several CPythons, byte for byte the same wherever a commit is built.

A compiled module carries its Python's version in its file name. So the locked wheels are installed once per
version, each into a folder of its own, the folders are laid over each other, and shiv packs the result.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "build/requirements.lock"
START = ROOT / "build/bootstrap_main.py"
CACHE = ROOT / ".cache/pyz"
OUTPUT = ROOT / "dist/stator.pyz"

PYTHONS = ("3.11", "3.12", "3.13")
# The wheels that a libc can load, by the last part of Python's name for its platform (x86_64-linux-gnu).
WHEELS = {"gnu": ("manylinux2014", "manylinux_2_28"), "musl": ("musllinux_1_1", "musllinux_1_2")}
# What never runs, and pip's notes, some of which hold paths of this machine.
UNUSED = (
    "bin/*",
    "falcon/bench/*",
    "falcon/testing/*",
    "*/__pycache__/*",
    "*/tests/*",
    "*.pyi",
    "*.pyx",
    "*.dist-info/sboms/*",
    *(f"*.dist-info/{name}" for name in ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")),
)


def main() -> None:
    """Builds the archive for this machine's architecture and libc."""
    platform = sysconfig.get_config_var("MULTIARCH") or sys.platform
    machine, _, libc = platform.partition("-linux-")
    if libc not in WHEELS:
        sys.exit(f"build/pyz.py: stator.pyz is made on Linux with glibc or musl, not on {platform}")
    if re.search("; .*python_(full_)?version", LOCK.read_text()):
        # pip evaluates such markers for the Python that it runs on, whatever --python-version says.
        sys.exit(f"build/pyz.py: {LOCK.name} must lock the same packages for each Python")

    epoch = commit_time()
    with TemporaryDirectory() as temporary:
        site, draft = Path(temporary, "site"), Path(temporary, "draft.pyz")
        for python in PYTHONS:
            lay_over(installed(python, [f"{tag}_{machine}" for tag in WHEELS[libc]]), site)
        add_stator(Path(temporary, "wheel"), site)
        pack(site, draft, epoch)
        seal(draft, epoch, platform, {"help": said(site, "--help"), "version": said(site, "--version")})
    size = OUTPUT.stat().st_size / 1e6
    pythons = ", ".join(PYTHONS)
    sys.stdout.write(f"built {OUTPUT.relative_to(ROOT)}: {size:.1f} MB, for CPython {pythons} on {platform}\n")


def run(*command: str, **environment: str) -> str:
    """Runs a program in the project's root, and returns what it wrote; if it fails, shows that and exits."""
    done = subprocess.run(  # noqa: S603 (the recipe's own command lines)
        command, cwd=ROOT, env=os.environ | environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nbuild/pyz.py: this failed: {shlex.join(command)}")
    return done.stdout


def commit_time() -> int:
    """The Unix time that all files in the archive get: SOURCE_DATE_EPOCH, or that of the last commit."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--no-show-signature", "--format=%ct"))


def installed(python: str, platforms: list[str]) -> Path:
    """A folder with the locked wheels for one Python, installed now or by an earlier build.

    Args:
        python: The version, as 3.11.
        platforms: The wheels' platform tags that will do, as manylinux_2_28_x86_64.
    """
    key = hashlib.sha256(LOCK.read_bytes() + repr(platforms).encode()).hexdigest()[:16]
    folder = CACHE / f"{python}-{key}"
    if folder.exists():
        return folder

    sys.stdout.write(f"installing the locked wheels for CPython {python}\n")
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as temporary:
        options = ["-qq", "--disable-pip-version-check", "--no-compile", "--no-deps", "--require-hashes"]
        options += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
        options += [f"--platform={platform}" for platform in platforms]
        options += [f"--target={temporary}/site", f"--requirement={LOCK}"]
        run(sys.executable, "-m", "pip", "install", *options)
        # Moved when complete, so that an interrupted build leaves nothing that the next would take.
        Path(temporary, "site").replace(folder)
    return folder


def lay_over(folder: Path, site: Path) -> None:
    """Copies what can run from one Python's packages over those of the others."""
    for path, name in files(folder):
        if any(fnmatch(name, pattern) for pattern in UNUSED):
            continue
        target = site / name
        if target.exists() and ".dist-info/" not in name and target.read_bytes() != path.read_bytes():
            sys.exit(f"build/pyz.py: {name} is not the same for each Python, so one archive can't hold it")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each file below a folder, and its name there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.relative_to(folder).as_posix()


def add_stator(wheels: Path, site: Path) -> None:
    """Builds the project's own wheel, and lays it over the packages."""
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(wheels))
    unpacked = wheels / "unpacked"
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(unpacked)
    lay_over(unpacked, site)


def pack(site: Path, draft: Path, epoch: int) -> None:
    """Has shiv make the archive."""
    if pth := next(site.glob("*.pth"), None):
        sys.exit(f"build/pyz.py: {pth.name} would not be run by {START.name}")
    options = ["--entry-point=stator.main:run", "--reproducible", "--uncompressed", "--compile-pyc"]
    command = [sys.executable, "-m", "shiv", *options, f"--site-packages={site}", f"--output-file={draft}"]
    run(*command, SOURCE_DATE_EPOCH=str(epoch))


def said(site: Path, flag: str) -> bytes:
    """What Stator answers to a flag where nothing is set."""
    unset = dict.fromkeys((name for name in os.environ if name.startswith("STTR_")), "")
    return run(sys.executable, "-B", "-m", "stator", flag, PYTHONPATH=str(site), **unset).encode()


def seal(draft: Path, epoch: int, platform: str, answers: dict[str, bytes]) -> None:
    """Writes shiv's archive anew, to its place, with our start, in a fixed order and with fixed permissions.

    Args:
        draft: What shiv made.
        epoch: The Unix time that all files get.
        platform: Python's name for the platform that the compiled modules are for.
        answers: What our start answers by itself, by name.

    shiv takes its own files in the order, and with the permissions, that they happen to have on this machine.
    """
    with zipfile.ZipFile(draft) as archive:
        contents = {name: archive.read(name) for name in sorted(archive.namelist())}
    build_id = json.loads(contents["environment.json"])["build_id"]
    contents |= {f"answers/{name}": answer for name, answer in answers.items()}
    contents["__main__.py"] = start(BUILD_ID=build_id, PLATFORM=platform, PYTHONS=", ".join(PYTHONS))

    OUTPUT.parent.mkdir(exist_ok=True)
    # Written beside its place and then moved there: a Stator that runs keeps the file that it has open.
    beside = OUTPUT.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                info = zipfile.ZipInfo(name, time.gmtime(epoch)[:6])
                info.external_attr = 0o100644 << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    beside.chmod(0o755)
    beside.replace(OUTPUT)


def start(**facts: str) -> bytes:
    """The archive's __main__.py, with what it must know of the archive."""
    text = START.read_text()
    for name, value in facts.items():
        text = text.replace(f'"@{name}@"', json.dumps(value))
    return text.encode()


if __name__ == "__main__":
    main()
