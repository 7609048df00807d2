"""Settings that are regular expressions."""

import re

from stator.launch.settings import Check


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


PATTERN = Check("a regular expression", _is_pattern)


def excluding(text: str) -> re.Pattern[str] | None:
    """What finds names to leave out; an empty text, which would be found in each, stands for none."""
    return re.compile(text) if text else None
