"""The version of this build of Stator."""

import sys

try:
    from stator._version import version as __version__
except ImportError:  # a checkout that was never built
    __version__ = "0.0.0+unknown"

__all__ = ["__version__", "build_labels"]


def build_labels() -> tuple[tuple[str, str], ...]:
    """Returns the labels of ``stator_build_info``: the versions of Stator and of Python."""
    return (("version", __version__), ("python", sys.version.split()[0]))
