"""`python -m stator`, and the command `stator`."""

import sys


def run() -> int:
    """Runs the program, or the command `ctl`, with this process's command line; returns its exit status."""
    # Each imports nothing of the other: a look at a service is to be quick.
    if sys.argv[1:2] == ["ctl"]:
        from stator.control.ctl import run as run_ctl

        return run_ctl(sys.argv[2:])
    from stator.main import run as run_program

    return run_program()


if __name__ == "__main__":
    sys.exit(run())
