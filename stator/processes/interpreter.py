"""The Python interpreter with which a process starts another one."""

import sys
from pathlib import Path


def interpreter() -> str:
    """Returns sys.executable, or the path of an interpreter where that is a server with Python in it, as uWSGI is."""
    if "python" in Path(sys.executable).name:
        return sys.executable
    return str(Path(sys.prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
