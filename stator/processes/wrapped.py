"""Whether this process belongs to a program that Stator runs."""

import os

VARIABLE = "STATOR_WRAPPED"  # in the program's environment, and that of all that it starts


def is_wrapped() -> bool:
    """Returns whether a Stator has started this process, or one that started it, and registers it."""
    return VARIABLE in os.environ
