"""Masks secrets in texts: users and query values of URIs by their form, and known values wherever they stand."""

import re
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from stator.settings.declare import REDACTED, Secret, declared_fields, options_of

Mask: TypeAlias = Callable[[str], str]
# Parameters of a query whose values are no secrets: the names of collectors.
SHOWN_PARAMETERS = frozenset({"collect[]", "exclude[]"})
# Shorter values, and words of JSON, are masked only in their own place: elsewhere they would turn up by chance.
SHORTEST = 4
_WORDS = frozenset({"true", "false", "null", "none"})
# Characters of a URI's user and password that must be in sight to see that they are one.
LONGEST_USER = 512
LOOK_AGAIN = 1.0  # seconds after which files are read again
KEPT = 16  # former contents of files that stay masked
_URI = re.compile(r'://([^\s"<>]+)')
_HEX = re.compile("%[0-9A-F]{2}")
# What may be a URI, and as a wrong setting need not be a right one.
_USER_OF_VALUE = re.compile(r"(?P<scheme>\w+://)?.*@", re.DOTALL)
_PARAMETER = re.compile(r"(?<=[?&])(?P<name>[^=&?\s]*=)[^&#\s]+")


def mask_uris(text: str) -> str:
    """Returns a text without the users, passwords and query values of URIs in it."""
    return _URI.sub(_mask_uri, text) if "://" in text else text


def mask_query(query: str, shown: frozenset[str] = SHOWN_PARAMETERS) -> str:
    """Returns a query without the values of other parameters than `shown`; what has no name counts as a value."""
    return "&".join(_mask_part(part, shown) for part in query.split("&"))


def mask_setting(text: str) -> str:
    """Returns a text that may be a wrong URI without all that may be a user, a password or a query's value."""
    return mask_uris(_PARAMETER.sub(rf"\g<name>{REDACTED}", _USER_OF_VALUE.sub(_mask_user, text)))


def mask_texts(data: Any, mask: Mask = mask_uris) -> Any:
    """Returns plain data whose texts are masked; tuples become lists."""
    if isinstance(data, dict):
        return {name: mask_texts(each, mask) for name, each in data.items()}
    if isinstance(data, list | tuple):
        return [mask_texts(each, mask) for each in data]
    return mask(data) if isinstance(data, str) else data


def secrets_of(config: Any) -> Iterator[Secret]:
    """Yields what is secret in a Config: Secrets, what dumps leave out of other settings, and parts of URIs."""
    for attribute in declared_fields(type(config)):
        options, value = options_of(attribute), getattr(config, attribute.name)
        if options.is_section:
            yield from secrets_of(value)
        elif isinstance(value, Secret):
            yield value
        else:
            texts = set(_texts(value))
            if options.show:
                yield from map(Secret, texts - {*_texts(options.show(config, value))})
            for text in texts:
                yield from map(Secret, _uri_secrets(text.replace("%%", "%")))


class KnownSecrets:
    """Masks known values in texts, also where they are written as in JSON, HTML, a URI or Basic credentials.

    Values that come from files are masked as they are and as they were.
    """

    def __init__(
        self, secrets: Iterable[Secret] = (), *, user: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        known = list(secrets)
        self._files = [each for each in known if each.is_from_file]
        self._user, self._clock, self._read_at = user, clock, clock()
        self._fixed = {each.latest for each in known if not each.is_from_file}
        self._read: deque[str] = deque((each.latest for each in self._files), KEPT)
        self._compile()

    @property
    def reach(self) -> int:
        """How many characters must be in sight to see a secret from its first one."""
        return max(LONGEST_USER, *map(len, self._forms)) if self._forms else LONGEST_USER

    def mask(self, text: str) -> str:
        """Returns a text without known secrets, nor those of URIs."""
        text = mask_uris(text)
        if self._files:
            self._look_again()
        for form in self._forms:
            if form in text:
                return self._pattern.sub(REDACTED, text)
        return text

    def _look_again(self) -> None:
        if (now := self._clock()) >= self._read_at + LOOK_AGAIN:
            self._read_at = now
            for each in self._files:
                each.reveal()
        # Whoever sends a new one has revealed it before.
        if new := [each.latest for each in self._files if each.latest not in self._read]:
            self._read.extend(new)
            self._compile()

    def _compile(self) -> None:
        stripped = {text.strip() for text in (*self._fixed, *self._read)}
        texts = [text for text in stripped if len(text) >= SHORTEST and text.lower() not in _WORDS]
        forms = {form for text in texts for form in _forms(text, self._user)}
        # The longest first, since one may be a part of another.
        ordered = tuple(sorted(forms, key=len, reverse=True))
        self._pattern, self._forms = re.compile("|".join(map(re.escape, ordered))), ordered


def _forms(text: str, user: str) -> Iterator[str]:
    """Yields how a secret may be written by a peer that echoes it."""
    import html
    import json

    as_bytes = text.encode(errors="replace")
    # A server takes the bytes of a header for Latin-1.
    for each in (text, as_bytes.decode("latin-1")):
        yield from (each, repr(each)[1:-1], html.escape(each), html.escape(each, quote=False))
        yield html.escape(each).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
        for escaped in (json.dumps(each)[1:-1], json.dumps(each, ensure_ascii=False)[1:-1]):
            yield escaped
            yield escaped.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"})  # as Go writes it
    for quoted in (quote(as_bytes), quote(as_bytes, safe=""), quote_plus(as_bytes)):
        yield quoted
        yield _HEX.sub(lambda found: found[0].lower(), quoted)
    yield b64encode(f"{user}:{text}".encode(errors="replace")).decode().rstrip("=")  # RFC 7617, section 2


def _mask_uri(found: re.Match[str]) -> str:
    # All up to the last @, since a password may hold what it should not.
    _, at, rest = found[1].rpartition("@")
    rest, hash_, fragment = rest.partition("#")
    target, mark, query = rest.partition("?")
    parts = (_mask_part(part, SHOWN_PARAMETERS) if "=" in part else part for part in fragment.split("&"))
    return f"://{at and f'{REDACTED}@'}{target}{mark}{mask_query(query)}{hash_}{'&'.join(parts)}"


def _mask_user(found: re.Match[str]) -> str:
    return f"{found['scheme'] or ''}{REDACTED}@"


def _mask_part(part: str, shown: frozenset[str]) -> str:
    name, equals, value = part.partition("=")
    if not equals:
        return part and REDACTED
    return part if not value or unquote_plus(name) in shown else f"{name}={REDACTED}"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _texts(each)


def _uri_secrets(text: str) -> Iterator[str]:
    """Yields the passwords and query values of URIs, as they are written and as they are meant."""
    for found in _URI.finditer(text):
        user, _, rest = found[1].rpartition("@")
        name, colon, password = user.partition(":")
        parts = (part.partition("=") for part in rest.partition("#")[0].partition("?")[2].split("&"))
        values = [value if equals else name for name, equals, value in parts if name not in SHOWN_PARAMETERS]
        for secret in (password if colon else name, *values):
            yield from {secret, unquote(secret), unquote_plus(secret)}
