"""The CPythons of this machine that Stator is for."""

import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


def found() -> dict[str, str]:
    """An interpreter of each version that is here, the running one at least; by version."""
    on_path = [shutil.which(f"python{version}") for version in VERSIONS]
    pyenv = [path for version in VERSIONS for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")]
    versions: dict[str, str] = {}
    # Resolved, since a virtual environment has packages of its own.
    for path in map(str, [Path(sys.executable).resolve(), *filter(None, on_path), *pyenv]):
        asked = subprocess.run([path, "-V"], capture_output=True, text=True, check=False)  # may be pyenv's empty shell
        if asked.returncode == 0:
            versions.setdefault(asked.stdout.split()[1].rpartition(".")[0], path)
    return {version: versions[version] for version in VERSIONS if version in versions}
