"""Content negotiation: the format and the encoding that a scraper prefers."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

from stator.exposition.encoder import Encoder
from stator.exposition.format import Format
from stator.exposition.openmetrics import OPENMETRICS, OPENMETRICS_UTF8
from stator.exposition.text import TEXT_0_0_4, TEXT_1_0_0, TEXT_1_0_0_UTF8

Encoding: TypeAlias = Literal["identity", "gzip"]

# Formats by media type and version, without and with UTF-8 names; the first version is the default.
_OFFERED: dict[str, dict[str, tuple[Format, Format]]] = {
    "text/plain": {"0.0.4": (TEXT_0_0_4, TEXT_0_0_4), "1.0.0": (TEXT_1_0_0, TEXT_1_0_0_UTF8)},
    "application/openmetrics-text": {"1.0.0": (OPENMETRICS, OPENMETRICS_UTF8)},
}
_RANGES = {"*/*": "text/plain", "text/*": "text/plain", "application/*": "application/openmetrics-text"}
# Times are on by default only in the oldest format: with them, Prometheus does not mark series that are gone as stale.
_TIMED = TEXT_0_0_4


class Negotiator:
    """Holds one encoder for each format; with `auto`, only samples in text 0.0.4 carry times."""

    def __init__(self, timestamps: Literal["auto", "always", "never"] = "auto") -> None:
        self._timestamps = timestamps
        self._encoders: dict[Format, Encoder] = {}

    def encoder_for(self, accept: str) -> Encoder:
        """The encoder of the format that an Accept header prefers."""
        chosen = choose_format(accept)
        if chosen not in self._encoders:
            timestamps = self._timestamps == "always" or (self._timestamps == "auto" and chosen is _TIMED)
            # Threads that ask at the same time must get the same one, since it keeps templates.
            self._encoders.setdefault(chosen, Encoder(chosen, timestamps=timestamps))
        return self._encoders[chosen]


# https://prometheus.io/docs/instrumenting/content_negotiation/
def choose_format(accept: str) -> Format:
    """The format that an Accept header prefers, the first of equal ones; text 0.0.4 if it accepts none that we have."""
    for media_type, parameters, quality in sorted(_clauses(accept), key=lambda clause: -clause[2]):
        versions = _OFFERED.get(_RANGES.get(media_type, media_type), {})
        version = parameters.get("version", next(iter(versions), ""))
        if quality and version in versions:
            return versions[version][parameters.get("escaping") == "allow-utf-8"]
    return TEXT_0_0_4


def choose_encoding(accept_encoding: str) -> Encoding:
    """``gzip`` if the header accepts it: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3."""
    qualities = {coding: quality for coding, _, quality in _clauses(accept_encoding)}
    return "gzip" if qualities.get("gzip", qualities.get("*")) else "identity"


def _clauses(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """A header's values, each with its parameters and its quality, which is 0 if it's not accepted."""
    from falcon.util.mediatypes import parse_header

    for clause in header.split(","):
        value, parameters = parse_header(clause.strip())
        lower = {key.lower(): text for key, text in parameters.items()}
        try:
            quality = float(lower.get("q", "1"))
        except ValueError:
            quality = 0.0
        if value:
            yield value.lower(), lower, quality if quality > 0 else 0.0  # NaN too
