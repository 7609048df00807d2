"""HTTP headers: which can be sent, and which are shown in the log."""

import re
from collections.abc import Iterable, Iterator

from stator.settings.declare import REDACTED, Check

# Redacted wherever they are logged, beside those that STTR_CLIENT_REDACTHEADERS names.
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-consul-token"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
HEADER_PAIRS = Check("pairs of header name and value: name,value,name,value", lambda words: len(words) % 2 == 0)
SENDABLE = "names of letters, digits and dashes, and values without control characters"


def shown_headers(headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> dict[str, list[str]]:
    """Headers as they are logged: canonical names, a list of values each, secrets hidden.

    Args:
        headers: (name, value) pairs; a name may come more than once.
        secret: Names, in lower case, of headers to hide beside `SECRET_HEADERS`.
    """
    shown: dict[str, list[str]] = {}
    for name, value in headers:
        hidden = name.lower() in SECRET_HEADERS or name.lower() in secret
        shown.setdefault(name.title(), []).append(REDACTED if hidden else value)
    return shown


def is_header(name: str, value: str) -> bool:
    """Whether a header can be sent: https://www.rfc-editor.org/rfc/rfc9110#section-5."""
    return bool(_NAME.fullmatch(name)) and not _CONTROL.search(value)


def header_pairs(words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Headers, each a name and a value, from a setting that holds `HEADER_PAIRS`."""
    return zip(words[::2], words[1::2], strict=True)
