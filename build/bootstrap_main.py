"""The start of stator.pyz: finds where its packages are unpacked, or unpacks them, and runs Stator.

It takes the place of shiv's own start, which imports half the standard library before each run, and fails where there
is no writable home. shiv still unpacks, and takes over when one of its settings is given (SHIV_INTERPRETER, ...).
"""
# pathlib would take as long to import as all that runs here.
# ruff: noqa: PTH100, PTH102, PTH110, PTH111, PTH112, PTH116, PTH117, PTH104, PTH118, PTH119, PTH120, PTH208

import _imp
import gc
import os
import stat
import sys
from zipimport import zipimporter

# pyz.py puts these in.
BUILD_ID = "@BUILD_ID@"
BUILT_FOR = "@BUILT_FOR@"
PLATFORMS = "@PLATFORMS@"
SUFFIXES = "@SUFFIXES@"
# What names of compiled modules end in for this Python: .cpython-311-x86_64-linux-gnu.so. importlib.machinery, which
# has it too, takes longer to import than all else here.
SUFFIX = _imp.extension_suffixes()[0]
PLATFORM = "-".join(SUFFIX[1:-3].split("-")[2:])  # x86_64-linux-gnu
# Flags whose answer is mostly the same, and stands in the archive: to work it out takes many times as long.
ANSWERS = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}
# Each interpreter has a folder of its own to unpack to, with what it needs; this begins the folders' names.
GROUP = "stator-"
ELSEWHERE = "set SHIV_ROOT to another folder"


def main() -> int:
    """Runs Stator; returns its exit status."""
    check_interpreter()
    # From the module within `signal`, which takes as long to import as all else here.
    import _signal  # type: ignore[import-not-found] # undocumented, so without types

    # Until Stator waits for signals itself, Ctrl-C is to end it as any program, not with Python's traceback.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    archive = os.path.dirname(__file__)
    # Chosen collectors may have settings of their own, which only Stator finds.
    if len(sys.argv) == 2 and (answer := ANSWERS.get(sys.argv[1])) and not os.environ.get("STTR_COLLECTORS"):
        sys.stdout.write(zipimporter(archive).get_data(f"answers/{answer}").decode())
        return 0

    name = os.path.join(f"{GROUP}{SUFFIX[1:-3]}", f"{os.path.basename(os.path.realpath(archive))}_{BUILD_ID}")
    try:
        root = os.path.abspath(os.path.expanduser(os.environ.get("SHIV_ROOT") or find_root(name)))
    except FileNotFoundError:
        sys.exit("stator.pyz: the working folder is gone: start Stator in one that exists")
    target = os.path.join(root, name)
    site = os.path.join(target, "site-packages")
    check_owners(site)
    if is_noexec(root):
        sys.exit(f"stator.pyz: {root} is mounted noexec, so no compiled module can be loaded from it: {ELSEWHERE}")

    # Not left to shiv, which would unpack what is for other platforms, too.
    is_forced = bool(os.environ.pop("SHIV_FORCE_EXTRACT", ""))
    while is_forced or not os.path.isdir(site) or not hold(target):
        unpack(archive, target, is_forced=is_forced)
        check_owners(site)
        is_forced = False

    if any(key.startswith("SHIV_") and key != "SHIV_ROOT" for key in os.environ):
        from _bootstrap import bootstrap  # type: ignore[import-not-found]

        os.environ["SHIV_ROOT"] = os.path.dirname(target)
        bootstrap()
        return 0

    # In the archive's own place, so before PYTHONPATH: what runs is what was locked and tested together.
    sys.path[0] = site

    # Little of what is imported is garbage, and to look for it takes a part of each start. `stator.main` enables it.
    gc.disable()
    from stator.__main__ import run

    remove_others(root)
    return run()


def check_interpreter() -> None:
    """Exits with a reason where the archive's compiled modules would only be "not found"."""
    if SUFFIX not in SUFFIXES.split():
        python = "{}.{}".format(*sys.version_info)
        sys.exit(f"stator.pyz: built for {BUILT_FOR}; this is {sys.implementation.name} {python} ({SUFFIX[1:-3]})")


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


def unpack(archive: str, target: str, *, is_forced: bool) -> None:
    """Unpacks what this Python needs, compiled, whole or not at all; a second process waits for the first.

    What is there already is replaced only if that is forced.
    """
    from copy import copy
    from pathlib import Path
    from typing import Any
    from zipfile import ZipFile, ZipInfo

    from _bootstrap import extract_site_packages

    class Needed(ZipFile):
        """The archive without what is compiled for other Pythons and platforms."""

        def infolist(self) -> list[ZipInfo]:
            others = tuple(f".{each}" for each in PLATFORMS.split() if each != PLATFORM)
            infos = (info for info in super().infolist() if not info.filename.endswith(others))
            return [info for info in infos if info.filename.endswith(SUFFIX) or info.filename[-3:] != ".so"]

        def extract(self, member: str | ZipInfo, path: Any = None, pwd: bytes | None = None) -> str:
            info = copy(self.getinfo(member) if isinstance(member, str) else member)
            info.filename = info.filename.removesuffix(f".{PLATFORM}")
            return super().extract(info, path, pwd)

    # What others can write, they can make us run.
    umask = os.umask(0o022)
    try:
        with Needed(archive) as packed:
            # One worker: as quick for so few files, and needs no shared memory, which a sandbox may refuse.
            extract_site_packages(packed, Path(target), compile_pyc=True, compile_workers=1, force=is_forced)
    except OSError as error:
        sys.exit(f"stator.pyz: can't unpack to {target}, {error.strerror}: {ELSEWHERE}")
    finally:
        os.umask(umask)


def hold(target: str) -> bool:
    """Keeps an unpacked folder from being removed until this process, and all forked from it, have ended.

    Returns whether it is still there.
    """
    import fcntl

    try:
        folder = os.open(target, os.O_RDONLY)  # never closed if it is
        try:
            fcntl.flock(folder, fcntl.LOCK_SH)
        except OSError:
            return True  # this filesystem has no locks, so nothing can be removed either
        if os.path.samestat(os.fstat(folder), os.stat(target)):
            return True
        os.close(folder)
    except OSError:
        pass
    return False


def remove_others(root: str) -> None:
    """Removes the folders that other versions have unpacked and that nothing runs from, where that can be done."""
    for group in listed(root):
        if group.startswith(f"{GROUP}cpython-"):
            for name in listed(os.path.join(root, group)):
                # Hidden are shiv's locks; what it is unpacking just now ends in .tmp.
                if BUILD_ID not in name and not name.startswith(".") and not name.endswith(".tmp"):
                    remove(os.path.join(root, group, name))


def listed(folder: str) -> list[str]:
    """What a folder has in it, if it may be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def remove(unused: str) -> None:
    """Removes a folder unless something runs from it."""
    import fcntl
    import shutil

    try:
        folder = os.open(unused, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # First out of the way, so that no start finds the half of it.
        aside = unused.removesuffix(".old") + ".old"
        os.rename(unused, aside)
        shutil.rmtree(aside)
    except OSError:
        pass  # in use, or not ours to remove
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
