"""The files of users and tokens; no error shows what is in them."""

import re
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

LONGEST = 1 << 20  # bytes of a file
COSTLY = 15  # of a hash: that of one password takes two seconds or more
SHORT = 16  # characters; a token with fewer may be guessed
_HASH = re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_TOKEN = re.compile(r"[!-~]+")


class ContentError(ValueError):
    """A file holds something else than was expected."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"expected {expected}")
        self.expected = expected


def read_users(path: str) -> dict[str, str]:
    """Returns the bcrypt hashes of an htpasswd file by user; raises OSError and ContentError."""
    users: dict[str, str] = {}
    for number, line in _lines(path):
        name, _, hashed = line.partition(":")
        if not name or not is_hash(hashed):
            msg = f"name:hash in line {number}, with a hash of bcrypt as htpasswd -B writes it"
            raise ContentError(msg)
        if name in users:
            msg = f"another name in line {number}, since a line before has this one"
            raise ContentError(msg)
        users[name] = hashed
    if not users:
        msg = "a line name:hash for each user, and there is none"
        raise ContentError(msg)
    return users


def read_tokens(path: str) -> tuple[bytes, ...]:
    """Returns the digests of a file's tokens; raises OSError and ContentError."""
    tokens = []
    for number, line in _lines(path):
        if not _TOKEN.fullmatch(line.strip()):
            msg = f"one token in line {number}, of ASCII without spaces"
            raise ContentError(msg)
        tokens.append(digest(line.strip()))
    if not tokens:
        msg = "a token in each line, and there is none"
        raise ContentError(msg)
    return tuple(tokens)


def is_hash(text: str) -> bool:
    """Returns whether this is a hash of bcrypt."""
    return bool(_HASH.fullmatch(text))


def digest(token: str) -> bytes:
    """Returns what a token is compared by."""
    return sha256(token.encode(errors="surrogatepass")).digest()


def warnings_of(path: str) -> Iterator[str]:
    """Yields that other users can read a file; raises OSError."""
    mode = Path(path).stat().st_mode
    if mode & stat.S_IROTH:
        yield f"{path} can be read by all users of this host (mode {stat.S_IMODE(mode):03o}): chmod o-r"


def costly_hashes(path: str) -> Iterator[str]:
    """Yields which hashes of a file take long; raises OSError and ContentError."""
    for number, line in _lines(path):
        yield from cost_warning(f"{path}, line {number}", line)


def short_tokens(path: str) -> Iterator[str]:
    """Yields which tokens of a file can be guessed; raises OSError and ContentError."""
    for number, line in _lines(path):
        if len(line.strip()) < SHORT:
            yield f"{path}, line {number}: a token of fewer than {SHORT} characters may be guessed"


def cost_warning(place: str, hashed: str) -> Iterator[str]:
    """Yields that a hash takes long, if it does; `place` is where it stands."""
    cost = hashed.split("$")[2:3]
    if cost and cost[0].isdigit() and int(cost[0]) >= COSTLY:
        yield f"{place}: a hash of cost {cost[0]} takes seconds, and one is checked at a time"


def read_whole(path: str) -> bytes:
    """Returns what is in a file; raises OSError, and ContentError for what is no regular file, or too long."""
    if not Path(path).is_file():
        Path(path).stat()  # raises OSError where there is nothing
        msg = "a regular file"
        raise ContentError(msg)
    with Path(path).open("rb") as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        msg = f"a file of at most {LONGEST} bytes"
        raise ContentError(msg)
    return data


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Yields the lines of a file that are neither empty nor comments, with their numbers."""
    data = read_whole(path)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        msg = f"UTF-8 in line {number}"
        raise ContentError(msg) from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.rstrip("\r")
