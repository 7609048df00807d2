"""The project as it is in this checkout, with what is not committed, in a folder of its own."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.program import ROOT

# Who works in the development container: one that owns the project and is not root.
USER = os.geteuid() or 1000


def copy(folder: Path) -> None:
    """Makes the folder. Other tests write files in the checkout itself while an image is built."""
    subprocess.run(("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder), check=True)
    for name in _files("--modified", "--others", "--exclude-standard"):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in _files("--deleted"):
        (folder / name).unlink()
    for name in (".peers", ".venv", "dist"):
        (folder / name).mkdir()
    if os.geteuid() != USER:
        subprocess.run(("chown", "--recursive", str(USER), folder), check=True)


def _files(*which: str) -> list[str]:
    listed = subprocess.run(("git", "ls-files", "-z", *which), cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]
