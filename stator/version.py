"""The version of Stator: the one place where it stands."""

import sys

__all__ = ["__version__", "build_labels"]

# The wheel's, and so the .pyz's, is read from this line; tests/build/test_version.py compares all that repeat it.
__version__ = "1.0.0"


def build_labels() -> tuple[tuple[str, str], ...]:
    """Returns the labels of ``stator_build_info``: the versions of Stator and of Python."""
    return (("version", __version__), ("python", sys.version.split()[0]))
