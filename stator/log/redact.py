"""Secrets in HTTP headers, which no log shows."""

from collections.abc import Iterable

from stator.settings.declare import REDACTED

# Redacted wherever they are logged, beside those that STTR_CLIENT_REDACTHEADERS names.
SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "set-cookie", "x-consul-token"})


def redact_headers(headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> dict[str, list[str]]:
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
