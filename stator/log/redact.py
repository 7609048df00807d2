"""Hides secret HTTP headers from the log."""

from collections.abc import Iterable

from stator.settings.declare import REDACTED

# Always redacted, beside those that STTR_CLIENT_REDACTHEADERS names.
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-consul-token"})


def redact_headers(headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> dict[str, list[str]]:
    """Returns headers for the log: canonical names with a list of values each, those of secret headers redacted.

    `secret` has the lower-case names of secret headers beside `SECRET_HEADERS`.
    """
    redacted: dict[str, list[str]] = {}
    for name, value in headers:
        is_secret = name.lower() in SECRET_HEADERS or name.lower() in secret
        redacted.setdefault(name.title(), []).append(REDACTED if is_secret else value)
    return redacted
