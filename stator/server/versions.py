"""Which versions of the HTTP server's packages work."""

import re
from importlib import import_module

from stator.settings.declare import StartError

# The lowest that works, and the first that may not; pyproject.toml declares the same.
SUPPORTED = {
    "gunicorn": ("23", "28"),
    "httptools": ("0.6.4", "0.10"),
    "uvicorn": ("0.45", "0.55"),
    "uvicorn_worker": ("0.4", "0.5"),
}


def check_versions() -> None:
    """Raises StartError if a package is missing, or of a version that might hang or fail later."""
    for name, (lowest, limit) in SUPPORTED.items():
        try:
            found = import_module(name).__version__
        except ImportError as error:
            msg = f"{name} can't be imported: {error}"
            raise StartError(msg) from error
        if not _numbers(lowest) <= _numbers(found) < _numbers(limit):
            msg = f"{name} {found} is not supported: versions from {lowest} on and before {limit} are"
            raise StartError(msg)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
