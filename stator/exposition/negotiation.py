"""Which format, and which encoding, a scraper is answered in.

https://prometheus.io/docs/instrumenting/content_negotiation/
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, TypeAlias

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8

Encoding: TypeAlias = Literal["identity", "gzip"]

# Formats by media type and version, without and with UTF-8 names; a version that is not asked for is the first.
_OFFERED: dict[str, dict[str, tuple[Format, Format]]] = {
    "text/plain": {"0.0.4": (TEXT_0_0_4, TEXT_0_0_4), "1.0.0": (TEXT_1_0_0, TEXT_1_0_0_UTF8)},
    "application/openmetrics-text": {"1.0.0": (OPENMETRICS, OPENMETRICS_UTF8)},
}
_RANGES = {"*/*": "text/plain", "text/*": "text/plain", "application/*": "application/openmetrics-text"}
# The only format whose samples the original gave times; in the newer ones Prometheus would lose its staleness.
_TIMED = TEXT_0_0_4


class Negotiator:
    """All formats that scrapers can be answered in.

    Args:
        timestamps: On which formats' samples times stand: ``always`` on all, ``never`` on any, or ``auto``.
    """

    def __init__(self, timestamps: Literal["auto", "always", "never"] = "auto") -> None:
        self._timestamps = timestamps
        self._formatters: dict[Format, Encoder] = {}

    def encoder_for(self, accept: str) -> Encoder:
        """What writes the format that an Accept header likes best."""
        chosen = dialect(accept)
        # Not one more than one, whoever asks at the same time: each keeps what it wrote.
        return self._formatters.get(chosen) or self._formatters.setdefault(chosen, self._new(chosen))

    def encoding(self, accept_encoding: str) -> Encoding:
        """How an Accept-Encoding header likes the body."""
        return encoding(accept_encoding)

    def _new(self, dialect: Format) -> Encoder:
        timed = self._timestamps == "always" or (self._timestamps == "auto" and dialect is _TIMED)
        return Encoder(dialect, timestamps=timed)


@lru_cache(maxsize=64)
def dialect(accept: str) -> Format:
    """The format that an Accept header likes best; text 0.0.4 where it likes none of ours."""
    for media_type, parameters in _by_quality(accept):
        versions = _OFFERED.get(_RANGES.get(media_type, media_type), {})
        version = parameters.get("version", next(iter(versions), ""))
        if version in versions:
            return versions[version][parameters.get("escaping") == "allow-utf-8"]
    return TEXT_0_0_4


@lru_cache(maxsize=64)
def encoding(accept_encoding: str) -> Encoding:
    """``gzip`` where an Accept-Encoding header takes it.

    https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
    """
    qualities = {coding: _quality(parameters) for coding, parameters in _clauses(accept_encoding)}
    return "gzip" if qualities.get("gzip", qualities.get("*", 0.0)) > 0 else "identity"


def _by_quality(header: str) -> list[tuple[str, dict[str, str]]]:
    """A header's clauses that are acceptable, best first; of equal ones the first is the best."""
    wanted = [each for each in _clauses(header) if _quality(each[1]) > 0]
    return sorted(wanted, key=lambda each: -_quality(each[1]))


def _clauses(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    from falcon.util.mediatypes import parse_header  # slow to import

    for clause in header.split(","):
        value, parameters = parse_header(clause.strip())
        if value:
            yield value.lower(), {key.lower(): text for key, text in parameters.items()}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
