"""The start of stator.pyz: finds where its packages are unpacked, or unpacks them, and runs Stator.

It takes the place of shiv's own start, which imports half the standard library before each run, and fails where there
is no writable home. shiv still unpacks, and takes over when one of its settings is given (SHIV_INTERPRETER, ...).
"""
# pathlib would take as long to import as all that runs here.
# ruff: noqa: PTH100, PTH102, PTH110, PTH111, PTH112, PTH116, PTH117, PTH118, PTH119, PTH120

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
ELSEWHERE = "set SHIV_ROOT to another folder"


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
    try:
        root = os.path.abspath(os.path.expanduser(os.environ.get("SHIV_ROOT") or find_root(name)))
    except FileNotFoundError:
        sys.exit("stator.pyz: the working folder is gone: start Stator in one that exists")
    target = os.path.join(root, name)
    site = os.path.join(target, "site-packages")
    check_owners(site)
    if is_noexec(root):
        sys.exit(f"stator.pyz: {root} is mounted noexec, so no compiled module can be loaded from it: {ELSEWHERE}")

    if any(key.startswith("SHIV_") and key != "SHIV_ROOT" for key in os.environ):
        from _bootstrap import bootstrap  # type: ignore[import-not-found]

        os.environ["SHIV_ROOT"] = root
        bootstrap()
        return 0

    if not os.path.isdir(site):
        unpack(archive, target)
        check_owners(site)
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
    roots = [os.path.join(home, ".shiv"), os.path.join(os.environ.get("TMPDIR") or "/tmp", f"stator-{os.geteuid()}")]  # noqa: S108 (checked below)
    for root in roots if os.path.isabs(home) else roots[1:]:
        if not is_noexec(root) and (os.path.isdir(os.path.join(root, name, "site-packages")) or can_write(root)):
            return root
    sys.exit(f"stator.pyz: can't unpack to {' or '.join(roots)}: {ELSEWHERE} that is writable, and not mounted noexec")


def can_write(root: str) -> bool:
    """Whether a folder is there, or could be made, that can be written into."""
    try:
        os.mkdir(root, 0o700)
    except OSError:
        return os.path.isdir(root) and os.access(root, os.W_OK | os.X_OK)
    return True


def is_noexec(path: str) -> bool:
    """Whether a path, or the part of it that is there, is on a filesystem that no code may be loaded from."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return bool(os.statvfs(path).f_flag & os.ST_NOEXEC)


def check_owners(path: str) -> None:
    """Exits with a reason where another user could have put code into a folder, or could change the way to it."""
    for whole in {os.path.abspath(path), os.path.realpath(path)}:
        # Whoever owns the root folder could change all else too; where root is not mapped, that is "nobody".
        owners = {0, os.geteuid(), os.stat("/").st_uid}
        at = "/"
        for part in whole.split("/"):
            at = os.path.join(at, part)
            try:
                about = os.lstat(at)
            except OSError:
                break  # nobody has made it yet
            is_link, is_sticky = stat.S_ISLNK(about.st_mode), about.st_mode & stat.S_ISVTX
            is_open = about.st_mode & 0o022 and not is_link
            if about.st_uid not in owners or (is_open and not is_sticky):
                facts = f"its owner is {about.st_uid}, its mode {stat.filemode(about.st_mode)}"
                sys.exit(f"stator.pyz: {at} is not ours alone, {facts}: {ELSEWHERE} that no other user can change")
            # What lies in a folder that all can write to may be anybody's.
            owners = {0, os.geteuid()} if is_open else owners


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
        sys.exit(f"stator.pyz: can't unpack to {target}, {error.strerror}: {ELSEWHERE}")
    finally:
        os.umask(umask)


if __name__ == "__main__":
    sys.exit(main())
