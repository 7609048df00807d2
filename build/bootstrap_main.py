"""The start of stator.pyz: finds where its packages are unpacked, or unpacks them, and runs Stator.

It takes the place of shiv's own start, which imports half the standard library before each run, and fails where there
is no writable home. shiv still unpacks, and takes over when one of its settings is given (SHIV_INTERPRETER, ...).
"""
# pathlib would take as long to import as all that runs here.
# ruff: noqa: PTH102, PTH111, PTH112, PTH117, PTH118, PTH119, PTH120

import _signal  # type: ignore[import-not-found] # undocumented, so without types
import os
import stat
import sys
from zipimport import zipimporter

# pyz.py puts these in.
BUILD_ID = "@BUILD_ID@"
PLATFORM = "@PLATFORM@"
PYTHONS = "@PYTHONS@"
# Flags whose answer is mostly the same, and stands in the archive: to work it out takes many times as long.
ANSWERS = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}


def main() -> int:
    """Runs Stator; returns its exit status."""
    # Until Stator waits for signals itself, Ctrl-C is to end it as any program, not with Python's traceback.
    # From the module within `signal`, which takes as long to import as all else here.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    check_interpreter()
    archive = os.path.dirname(__file__)
    # Chosen collectors may have settings of their own, which only Stator finds.
    if len(sys.argv) == 2 and (answer := ANSWERS.get(sys.argv[1])) and not os.environ.get("STTR_COLLECTORS"):
        sys.stdout.write(zipimporter(archive).get_data(f"answers/{answer}").decode())
        return 0

    name = f"{os.path.basename(os.path.realpath(archive))}_{BUILD_ID}"
    root = os.environ.get("SHIV_ROOT") or find_root(name)

    if any(key.startswith("SHIV_") and key != "SHIV_ROOT" for key in os.environ):
        from _bootstrap import bootstrap  # type: ignore[import-not-found]

        os.environ["SHIV_ROOT"] = root
        bootstrap()
        return 0

    target = os.path.join(os.path.expanduser(root), name)
    site = os.path.join(target, "site-packages")
    if not os.path.isdir(site):
        unpack(archive, target)
    # In the archive's own place, so before PYTHONPATH: what runs is what was locked and tested together.
    sys.path[0] = site

    from stator.main import run

    return run()


def check_interpreter() -> None:
    """Exits with a reason where the archive's compiled modules would only be "not found"."""
    python = "{}.{}".format(*sys.version_info)
    # Private, but sysconfig, which has it too, takes as long to import as the rest of a start.
    platform = getattr(sys.implementation, "_multiarch", PLATFORM)
    if sys.implementation.name != "cpython" or python not in PYTHONS.split(", ") or platform != PLATFORM:
        here = f"{sys.implementation.name} {python} on {platform}"
        sys.exit(f"stator.pyz: built for cpython {PYTHONS} on {PLATFORM}; this is {here}")


def find_root(name: str) -> str:
    """The folder to unpack into: ~/.shiv, or where that can't be, a private one among the temporary files.

    Args:
        name: What the unpacked archive is called there.
    """
    home = os.path.expanduser("~")
    root = os.path.join(home, ".shiv")
    if os.path.isabs(home) and (os.path.isdir(os.path.join(root, name, "site-packages")) or can_write(root)):
        return root

    root = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"stator-{os.geteuid()}")  # noqa: S108 (checked below)
    if not can_write(root):
        sys.exit(f"stator.pyz: can't unpack to {home}/.shiv or {root}: set SHIV_ROOT to a writable folder")
    # Whoever made it first could have put code there for us to run.
    about = os.lstat(root)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
        sys.exit(f"stator.pyz: {root} is not ours alone: remove it, or set SHIV_ROOT to a folder that is")
    return root


def can_write(root: str) -> bool:
    """Whether a folder is there, or could be made, that can be written into."""
    try:
        os.mkdir(root, 0o700)
    except OSError:
        return os.path.isdir(root) and os.access(root, os.W_OK | os.X_OK)
    return True


def unpack(archive: str, target: str) -> None:
    """Unpacks the archive's packages, compiled, whole or not at all; a second process waits for the first."""
    from pathlib import Path
    from zipfile import ZipFile

    from _bootstrap import extract_site_packages

    # What others can write, they can make us run.
    umask = os.umask(0o022)
    try:
        with ZipFile(archive) as packed:
            # One worker: as quick for so few files, and needs no shared memory, which a sandbox may refuse.
            extract_site_packages(packed, Path(target), compile_pyc=True, compile_workers=1)
    except OSError as error:
        sys.exit(f"stator.pyz: can't unpack to {target}, {error.strerror}: set SHIV_ROOT to another folder")
    finally:
        os.umask(umask)


if __name__ == "__main__":
    sys.exit(main())
