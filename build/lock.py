"""Writes the three locks: every version and every file's hash, for all platforms and Pythons at once.

`make lock` keeps the versions that are locked and still fit; `make lock ARGS=--upgrade` takes the newest.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILE = ["--universal", "--generate-hashes", "--python-version", "3.11"]
# What the files' headers name as their author, in place of uv's own command line with its paths.
COMPILE += ["--custom-compile-command", "make lock"]


def lock(output: str, *what: str, options: list[str]) -> None:
    """Writes one lock.

    Args:
        output: The lock's path under the project's root.
        what: uv's arguments that say what to lock.
        options: The caller's own arguments for uv.
    """
    command = ["-m", "uv", "pip", "compile", "--quiet", *COMPILE, *what, *options, "--output-file", output]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)  # noqa: S603 (our own command line)
    sys.stdout.write(f"wrote {output}\n")


def main(options: list[str]) -> None:
    """Writes the lock of everything first, then its two parts, which must choose the same versions."""
    everything = "build/dev.lock"
    lock(everything, "pyproject.toml", "--group", "dev", options=options)
    lock("build/requirements.lock", "pyproject.toml", "--constraints", everything, options=options)
    lock("build/tools.lock", "--group", "build", "--constraints", everything, options=options)


if __name__ == "__main__":
    main(sys.argv[1:])
