"""HTTP headers that can be sent."""

import re
from collections.abc import Iterator

from stator.log.redact import redact_header
from stator.settings.declare import Constraint

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
HEADER_PAIRS = Constraint("pairs of header name and value: name,value,name,value", lambda words: len(words) % 2 == 0)
HEADER_SYNTAX = "names of letters, digits and dashes, and values without control characters"


def is_header(name: str, value: str) -> bool:
    """Whether a header can be sent: https://www.rfc-editor.org/rfc/rfc9110#section-5."""
    return bool(_NAME.fullmatch(name)) and not _CONTROL.search(value)


def header_pairs(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Headers, each a name and a value, from a setting that holds `HEADER_PAIRS`."""
    return zip(words[::2], words[1::2], strict=True)


def redact_pairs(words: tuple[str, ...], secret: frozenset[str] = frozenset()) -> list[str]:
    """Returns header pairs without values that may be secrets; a last name may have no value yet."""
    return [redact_header(words[at - 1], word, secret) if at % 2 else word for at, word in enumerate(words)]
