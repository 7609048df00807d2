"""Masks what headers and queries may hold of secrets, for the log and for dumps of settings."""

from collections.abc import Iterable
from urllib.parse import parse_qs

from stator.settings.declare import REDACTED
from stator.settings.masking import SHOWN_PARAMETERS, mask_query, mask_uris

_HARMLESS = """
accept accept-charset accept-encoding accept-language accept-ranges age allow cache-control connection
content-encoding content-language content-length content-range content-type date etag expect expires forwarded host
if-match if-modified-since if-none-match if-unmodified-since keep-alive last-modified max-forwards pragma range
retry-after server te traceparent trailer transfer-encoding upgrade user-agent vary via
x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-prometheus-scrape-timeout-seconds x-real-ip
x-request-id
x-consul-contenthash x-consul-default-acl-policy x-consul-effective-consistency x-consul-index x-consul-knownleader
x-consul-lastcontact x-consul-query-backend x-consul-results-filtered-by-acls x-consul-translate-addresses
"""
# Headers whose values are no secrets, in lower case. Values of all others are masked: any header may carry a token.
HARMLESS_HEADERS = frozenset(_HARMLESS.split())
# Headers whose values are URIs, maybe without scheme and host.
URI_HEADERS = frozenset({"location", "content-location", "origin", "referer"})


def redact_header(name: str, value: str, secret: frozenset[str]) -> str:
    """Returns a header's value if its name is harmless and none of `secret` (in lower case), else the mask."""
    name = name.lower()
    if name in secret:
        return REDACTED
    if name in HARMLESS_HEADERS:
        return value
    if name not in URI_HEADERS:
        return REDACTED
    target, mark, query = value.partition("?")
    return mask_uris(f"{target}{mark}{mask_query(query)}")


def redact_headers(headers: Iterable[tuple[str, str]], secret: frozenset[str]) -> dict[str, list[str]]:
    """Returns values by canonical name for the log, without those that may be secrets."""
    redacted: dict[str, list[str]] = {}
    for name, value in headers:
        redacted.setdefault(name.title(), []).append(redact_header(name, value, secret))
    return redacted


def redact_query(query: str, shown: frozenset[str] = SHOWN_PARAMETERS) -> dict[str, list[str]]:
    """Returns values by parameter for the log, without those of other parameters than `shown`."""
    return parse_qs(mask_query(query, shown), keep_blank_values=True)
