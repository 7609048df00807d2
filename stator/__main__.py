"""`python -m stator`."""

import sys

from stator.main import run

if __name__ == "__main__":
    sys.exit(run())
