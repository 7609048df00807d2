"""Hides secret HTTP headers from the log."""

from collections.abc import Iterable

from stator.settings.declare import REDACTED

# Always redacted, beside those that STTR_CLIENT_REDACTHEADERS names.
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-consul-token"})


def redact_headers(headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> dict[str, list[str]]:
    """Returns values by canonical name for the log, without those of `SECRET_HEADERS` and `secret` (in lower case)."""
    secret |= SECRET_HEADERS
    redacted: dict[str, list[str]] = {}
    for name, value in headers:
        redacted.setdefault(name.title(), []).append(REDACTED if name.lower() in secret else value)
    return redacted
