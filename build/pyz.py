"""Makes dist/stator.pyz: one file for several CPythons, byte for byte the same wherever a commit is built.

A compiled module carries its Python's version and platform in its file name. So the locked wheels are installed once
for each, into a folder of its own, the folders are laid over each other, and shiv packs the result. One for the stable
ABI, and a library that comes with it, carries neither: there it has the platform's name behind its own, which is taken
away when it is unpacked.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory

from elf import trimmed

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "build/requirements.lock"
# The archive's start, and the files in build/ that it is made of.
START = {"__main__.py": "check_python.py", "bootstrap_main.py": "bootstrap_main.py"}
CACHE = ROOT / ".cache/pyz"
OUTPUT = ROOT / "dist/stator.pyz"
BILL, SUMS = "stator.cdx.json", "SHA256SUMS"  # what release.py writes beside it

PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
# The wheels that each platform can load, by Python's name for it.
PLATFORMS = {
    f"{machine}-linux-{libc}": [f"{tag}_{machine}" for tag in tags]
    for libc, tags in {"gnu": ("manylinux2014", "manylinux_2_28"), "musl": ("musllinux_1_1", "musllinux_1_2")}.items()
    for machine in ("x86_64", "aarch64")
}
# What never runs in Stator, and pip's notes, some of which hold paths of this machine.
UNUSED = (
    "bin/*",
    "cattrs/preconf/*",  # other formats
    "cattrs/strategies/*",
    *(f"click/{part}.py" for part in ("_termui_impl", "_winconsole", "shell_completion", "testing")),  # of terminals
    *(f"falcon/{part}" for part in ("bench/*", "cmd/*", "inspect.py")),
    "falcon/cyutil/*",  # for query strings and forms; as large as all else that is compiled
    "falcon/testing/*",
    # Of the servers, only what uvicorn does with httptools.
    *(f"gunicorn/{part}/*" for part in ("asgi", "ctl", "dirty", "http2", "instrument", "uwsgi")),
    *(
        f"gunicorn/workers/{worker}.py"
        for worker in ("base_async", "gasgi", "geventlet", "ggevent", "gthread", "gtornado", "sync")
    ),
    "dotenv/cli.py",
    "h11/*",
    "uvicorn/protocols/http/*zttp*",
    "uvicorn/protocols/http/h11_impl.py",
    "uvicorn/protocols/websockets/w*.py",
    "_yaml/*",  # the compiled parser, which one small file does not need
    "yaml/_yaml*",
    *(f"prometheus_client/{part}/*" for part in ("bridge", "twisted")),
    "structlog/twisted.py",
    *(f"psutil/_ps{system}.py" for system in ("aix", "bsd", "osx", "sunos", "windows")),
    "*/__pycache__/*",
    "*/tests/*",
    "*.c",
    "*.pxd",
    "*.pyi",
    "*.pyx",
    "*.dist-info/sboms/*",
    *(f"*.dist-info/{name}" for name in ("INSTALLER", "RECORD", "REQUESTED", "WHEEL", "direct_url.json")),
)


def main() -> None:
    """Builds the archive for this machine's architecture and libc."""
    platform = sysconfig.get_config_var("MULTIARCH") or sys.platform
    if platform not in PLATFORMS:
        sys.exit(f"build/pyz.py: stator.pyz is made on {', '.join(PLATFORMS)}, not on {platform}")
    build([platform], OUTPUT)


def build(platforms: Sequence[str], output: Path) -> None:
    """Builds the archive for these platforms, and says so."""
    if re.search("; .*(python_(full_)?version|platform|machine)", LOCK.read_text()):
        # pip evaluates such markers for the Python that it runs on, whatever it is asked for.
        sys.exit(f"build/pyz.py: {LOCK.name} must lock the same packages for each Python and platform")

    epoch = commit_time()
    with TemporaryDirectory() as temporary, ThreadPoolExecutor(os.cpu_count()) as several:
        site, draft = Path(temporary, "site"), Path(temporary, "draft.pyz")
        every = [(python, platform) for platform in platforms for python in PYTHONS]
        for folder in several.map(lambda one: installed(*one), every):
            lay_over(folder, site)
        add_stator(Path(temporary, "wheel"), site)
        pack(site, draft, epoch)
        facts = {
            "BUILT_FOR": f"CPython {', '.join(PYTHONS)} on {', '.join(platforms)}",
            "PLATFORMS": " ".join(platforms),
            "SUFFIXES": " ".join(suffix(python, platform) for python, platform in every),
        }
        seal(draft, output, epoch, facts, {flag: said(site, f"--{flag}") for flag in ("help", "version")})
    sys.stdout.write(
        f"built {os.path.relpath(output)}: {output.stat().st_size / 1e6:.1f} MB, for {facts['BUILT_FOR']}\n"
    )


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


def installed(python: str, platform: str) -> Path:
    """A folder with what runs of the locked wheels, installed now or by an earlier build.

    Args:
        python: The version, as 3.11.
        platform: Python's name for it, as x86_64-linux-gnu.
    """
    about = repr((PLATFORMS[platform], UNUSED))
    key = hashlib.sha256(LOCK.read_bytes() + about.encode()).hexdigest()[:16]
    folder = CACHE / f"{python}-{platform}-{key}"
    if folder.exists():
        return folder

    sys.stdout.write(f"installing the locked wheels for CPython {python} on {platform}\n")
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as temporary:
        wheels, site = Path(temporary, "wheels"), Path(temporary, "site")
        options = ["-qq", "--disable-pip-version-check", "--no-compile", "--no-deps", "--require-hashes"]
        options += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
        options += [f"--platform={tag}" for tag in PLATFORMS[platform]]
        options += [f"--target={wheels}", f"--requirement={LOCK}"]
        run(sys.executable, "-m", "pip", "install", *options)
        keep(wheels, site, suffix(python, platform), platform)
        # Moved when complete, so that an interrupted build leaves nothing that the next would take.
        site.replace(folder)
    return folder


def suffix(python: str, platform: str) -> str:
    """What names of compiled modules end in for one Python and platform."""
    return f".cpython-{python.replace('.', '')}-{platform}.so"


def keep(wheels: Path, site: Path, ending: str, platform: str) -> None:
    """Copies what can run of installed wheels, with what is compiled trimmed and named for one Python or platform.

    Args:
        wheels: Where they are installed.
        site: The folder to copy to.
        ending: What names of compiled modules end in.
        platform: Python's name for the platform.
    """
    for path, name in files(wheels):
        if any(fnmatch(name, pattern) for pattern in UNUSED):
            continue
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".abi3.so") or fnmatch(name, "*.libs/*"):
            # The same for each Python, so that the archive has it once for a platform.
            target.with_name(f"{path.name}.{platform}").write_bytes(trimmed(path.read_bytes()))
        elif path.suffix != ".so":
            shutil.copyfile(path, target)
        elif name.endswith(ending):
            target.write_bytes(trimmed(path.read_bytes()))
        else:
            sys.exit(f"build/pyz.py: {name} is not made for {ending}")


def lay_over(folder: Path, site: Path) -> None:
    """Copies one Python's packages over those of the others."""
    for path, name in files(folder):
        target = site / name
        if target.exists() and target.read_bytes() != path.read_bytes():
            sys.exit(f"build/pyz.py: {name} is not the same for each Python and platform, so one archive can't hold it")
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
    keep(unpacked, site, "", "")


def pack(site: Path, draft: Path, epoch: int) -> None:
    """Has shiv make the archive."""
    if pth := next(site.glob("*.pth"), None):
        sys.exit(f"build/pyz.py: {pth.name} would not be run by build/bootstrap_main.py")
    options = ["--entry-point=stator.__main__:run", "--reproducible", "--uncompressed", "--compile-pyc"]
    command = [sys.executable, "-m", "shiv", *options, f"--site-packages={site}", f"--output-file={draft}"]
    run(*command, SOURCE_DATE_EPOCH=str(epoch))


def said(site: Path, flag: str) -> bytes:
    """What Stator answers to a flag where nothing is set."""
    unset = dict.fromkeys((name for name in os.environ if name.startswith("STTR_")), "")
    return run(sys.executable, "-B", "-m", "stator", flag, PYTHONPATH=str(site), **unset).encode()


def seal(draft: Path, output: Path, epoch: int, facts: dict[str, str], answers: dict[str, bytes]) -> None:
    """Writes shiv's archive anew, to its place, with our start, in a fixed order and with fixed permissions.

    Args:
        draft: What shiv made.
        output: Its place.
        epoch: The Unix time that all files get.
        facts: What our start must know of the archive, by the names that stand for it there.
        answers: What our start answers by itself, by name.

    shiv takes its own files in the order, and with the permissions, that they happen to have on this machine.
    """
    with zipfile.ZipFile(draft) as archive:
        contents = {name: archive.read(name) for name in sorted(archive.namelist())}
    facts |= {"BUILD_ID": json.loads(contents["environment.json"])["build_id"]}
    contents |= {f"answers/{name}": answer for name, answer in answers.items()}
    contents |= {name: filled(ROOT / "build" / source, facts) for name, source in START.items()}

    output.parent.mkdir(exist_ok=True)
    for name in (BILL, SUMS):
        output.with_name(name).unlink(missing_ok=True)  # of an archive that this one replaces
    # Written beside its place and then moved there: a Stator that runs keeps the file that it has open.
    beside = output.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in contents.items():
                info = zipfile.ZipInfo(name, time.gmtime(epoch)[:6])
                info.external_attr = 0o100644 << 16
                archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=9)
    beside.chmod(0o755)
    beside.replace(output)


def filled(source: Path, facts: dict[str, str]) -> bytes:
    """A file of the archive's start, with what it must know of the archive."""
    text = source.read_text()
    for name, value in facts.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


if __name__ == "__main__":
    main()
