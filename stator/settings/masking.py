"""Masks secrets in texts: users and query values of URIs by their form, and known values wherever they stand."""

import re
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias
from urllib.parse import unquote, unquote_plus

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
LONGEST_FORM = 24  # characters as which a letter may be written
KEPT = 16  # former contents of files that stay masked
_URI = re.compile(r'://([^\s"<>]+)')
_AFTER_URI = ".,;:!')]}"  # ends a URI in a sentence or a list
_PLAIN = re.compile("[A-Za-z0-9_]+")
_BACKSLASH = r"(?:\\|%(?:25){0,2}5[Cc])"
# Ends a run of them: the rest of a pattern has only one way to match. Possessive quantifiers, which would end it too,
# match wrongly in CPython up to 3.11.4.
_ALL_BACKSLASHES = f"(?!{_BACKSLASH})"
_PARTS = re.compile(r"\\+|[A-Za-z0-9_]+|.", re.DOTALL)
_ENTITIES = {"<": "lt", ">": "gt", '"': "quot", "'": "apos"}
# What may be a URI, and as a wrong setting need not be a right one.
_USER_OF_VALUE = re.compile(r"(?P<scheme>\w+://)?.*@", re.DOTALL)
_PARAMETER = re.compile(r"[?&][^=&?]*=")


def mask_uris(text: str) -> str:
    """Returns a text without the users, passwords and query values of URIs in it."""
    return _URI.sub(_mask_uri, text) if "://" in text else text


def mask_query(query: str, shown: frozenset[str] = SHOWN_PARAMETERS) -> str:
    """Returns a query without the values of other parameters than `shown`; what has no name counts as a value."""
    return "&".join(_mask_part(part, shown) for part in query.split("&"))


def mask_setting(text: str) -> str:
    """Returns a text that may be a wrong URI without all that may be a user, a password or a query's value."""
    text = _USER_OF_VALUE.sub(_mask_user, text)
    if _PARAMETER.search(text):  # a pattern has question marks too
        target, mark, query = text.partition("?")
        text = f"{target}{mark}{mask_query(query)}"
    return mask_uris(text)


def mask_target(target: str) -> str:
    """Returns a health check's target without a URL's secrets, and without the arguments of a command."""
    target = mask_uris(target)
    command, space, _ = target.partition(" ")
    return f"{command} {REDACTED}" if space and target.startswith("exec:") else target


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

    def mask(self, text: str) -> str:
        """Returns a text without known secrets, nor those of URIs."""
        text = mask_uris(text)
        if self._files:
            self._look_again()
        for part, pattern in self._patterns:
            if part in text:
                text = pattern.sub(REDACTED, text)
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
        # RFC 7617, section 2
        texts += [b64encode(f"{self._user}:{text}".encode(errors="replace")).decode().rstrip("=") for text in texts]
        # The longest first, since one may be a part of another.
        texts.sort(key=len, reverse=True)
        # A part of each that is written in one way only: few texts hold it, and others need no search for the rest.
        self._patterns = [(max(_PLAIN.findall(text), key=len, default=""), _pattern(text)) for text in texts]
        lengths = (sum(1 if _PLAIN.match(each) else LONGEST_FORM for each in text) for text in texts)
        self.reach = max(LONGEST_USER, *lengths, 0)  # characters in which each secret is whole, from its first one on


def _pattern(text: str) -> re.Pattern[str]:
    """Returns what matches a secret however a peer writes it that echoes it, also in JSON within JSON or HTML."""
    written = "".join(each if _PLAIN.match(each) else _written(each) for each in _PARTS.findall(text))
    return re.compile(f"{re.escape(text)}|{written}")


def _written(letter: str) -> str:
    """Returns the regular expression for one letter, or several backslashes, as text, JSON, repr, HTML and in a URI."""
    if letter[0] == "\\":
        return f"{_BACKSLASH}{{1,{8 * len(letter)}}}{_ALL_BACKSLASHES}"
    data = letter.encode(errors="replace")
    forms = _forms(letter, data)
    if len(data) > 1:  # a server takes the bytes of a header for Latin-1
        forms += f"|{''.join(f'(?:{_forms(chr(byte), chr(byte).encode())})' for byte in data)}"
    return f"(?:{forms})"


def _forms(letter: str, data: bytes) -> str:
    # Bounded, so that no text takes long: JSON within JSON within JSON has seven backslashes before a quote.
    code, entity = ord(letter), _ENTITIES.get(letter, "amp")
    forms = [
        re.escape(letter),
        f"u{code:04x}|x{code:02x}",
        "".join(f"%(?:25){{0,2}}{byte:02x}" for byte in data),
        rf"(?:&|u0026|%26)(?:amp;){{0,2}}(?:#{code}|#x{code:x}|{entity});",
    ]
    if code > 0xFFFF:
        high, low = divmod(code - 0x10000, 0x400)
        forms.append(rf"u{high + 0xD800:04x}{_BACKSLASH}{{1,8}}u{low + 0xDC00:04x}")
    if letter.isspace():
        forms.append(r"[nrt]|\+")
    return f"{_BACKSLASH}{{0,8}}{_ALL_BACKSLASHES}(?i:{'|'.join(forms)})"


def _mask_uri(found: re.Match[str]) -> str:
    # All up to the last @, since a password may hold what it should not.
    uri = found[1].rstrip(_AFTER_URI)
    _, at, rest = uri.rpartition("@")
    rest, hash_, fragment = rest.partition("#")
    target, mark, query = rest.partition("?")
    parts = (_mask_part(part, SHOWN_PARAMETERS) if "=" in part else part for part in fragment.split("&"))
    return f"://{at and f'{REDACTED}@'}{target}{mark}{mask_query(query)}{hash_}{'&'.join(parts)}{found[1][len(uri) :]}"


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
