"""Decides what becomes of a request, by where it comes from, what it asks for, and its credentials."""

import time
from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Collection
from hmac import compare_digest
from typing import Literal, NamedTuple, TypeAlias

from stator.access.endpoints import ALL, ENDPOINTS, OPEN_PATHS
from stator.access.files import digest
from stator.access.limits import FailureLimit, RefusalLog
from stator.access.networks import Networks
from stator.access.passwords import Busy, Passwords
from stator.access.probes import is_key
from stator.access.requests import Request
from stator.access.rules import Credentials, Rules
from stator.log.logger import Log
from stator.settings.paths import PathSet

BASIC, BEARER = 'Basic realm="stator", charset="UTF-8"', 'Bearer realm="stator"'


class Decision(NamedTuple):
    """What becomes of a request.

    Attributes:
        status: With which it is refused; 0 lets it pass.
        body: Of the refusal.
        headers: Of the refusal.
        is_brief: Whether the answer is to leave out what only those with credentials may read.
        is_counted: Whether it is one of many failures that are summed up in the log, where it needs no line.
        extra: Headers of the answer, whether it is a refusal or not.
    """

    status: int = 0
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_brief: bool = False
    is_counted: bool = False
    extra: tuple[tuple[str, str], ...] = ()


PASSED = Decision()
FORBIDDEN = Decision(403, b'{"error":"forbidden"}')
NOT_FOUND = Decision(404, b'{"not":"found"}')
# By the limit of all requests; when there is room again depends on all clients.
LIMITED = Decision(429, b'{"error":"too many requests"}')


# What a request's credentials are; a password that must be hashed first is not known.
_Trust: TypeAlias = Literal["right", "missing", "wrong", "unknown"]


class Guard:
    """Decides what becomes of each request. Thread-safe; one for each process.

    Args:
        log: Where refusals are logged.
        rules: Who is let in, headers, and a limit of requests; none: all may ask.
        allow: Addresses that may ask; none: all may.
        open_paths: Paths for which nobody needs credentials.
        endpoints: Names of those that answer.
        probe_key: Returns the key by which our own probes are known; empty: there are none.
        passwords: What checks passwords.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        log: Log,
        rules: Rules | None = None,
        *,
        allow: Networks | None = None,
        open_paths: PathSet | None = None,
        endpoints: Collection[str] = ALL,
        probe_key: Callable[[], str] = lambda: "",
        passwords: Passwords | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules, self._allow, self._probe_key = rules or Rules(), allow or Networks(), probe_key
        self._open_paths = PathSet(OPEN_PATHS) if open_paths is None else open_paths
        self._closed = [paths for name, paths in ENDPOINTS.items() if name not in endpoints]
        self._passwords, self._clock = passwords or Passwords(), clock
        self._limit, self._refusals = FailureLimit(), RefusalLog(log)

    def decide(self, request: Request) -> Decision | None:
        """Returns what becomes of a request; None where `decide_by_hashing` must be called, which takes a while."""
        if not (self._is_own_probe(request) or self._rules.take()):
            return LIMITED
        decision = self._decide(request, may_hash=False)
        return decision and self._with_headers(decision)

    def decide_by_hashing(self, request: Request) -> Decision:
        """Returns what becomes of a request; waits until its password is hashed."""
        try:
            with self._passwords.turn():
                decision = self._decide(request, may_hash=True)
        except Busy:
            if self._is_closed(request.path):
                return self._with_headers(NOT_FOUND)
            now = self._clock()
            is_counted = not self._refusals.report("too many passwords wait to be hashed", request.address, now)
            is_open = request.path in self._open_paths
            decision = Decision(is_brief=True) if is_open else _too_many(1, is_counted=is_counted)
        assert decision is not None  # noqa: S101 # after hashing, nothing is left open
        return self._with_headers(decision)

    def is_doubtful(self, request: Request) -> bool:
        """Returns whether a request has credentials, and they are not known to be right, or were wrong too often."""
        credentials = self._rules.credentials() if request.authorization else None
        if credentials is None:
            return False
        is_blocked = self._limit.wait(request.address, self._clock()) > 0
        return is_blocked or self._trust(request, credentials, may_hash=False) != "right"

    def _decide(self, request: Request, *, may_hash: bool) -> Decision | None:
        now = self._clock()
        self._refusals.sum_up(now)
        if self._is_own_probe(request):
            return PASSED
        if self._allow and request.address not in self._allow:
            self._refusals.report("refused an address that STTR_SERVER_ALLOW does not name", request.address, now)
            return FORBIDDEN
        credentials = self._rules.credentials()
        decision = PASSED if credentials is None else self._authenticate(request, credentials, now, may_hash=may_hash)
        if decision is not None and not decision.status and self._is_closed(request.path):
            return NOT_FOUND
        return decision

    def _authenticate(
        self, request: Request, credentials: Credentials, now: float, *, may_hash: bool
    ) -> Decision | None:
        is_open, wait = request.path in self._open_paths, 0
        trust: _Trust
        if not request.authorization:
            trust = "missing"
        elif wait := self._limit.wait(request.address, now):
            # Right ones too: whoever guesses would learn by the answer that they are.
            trust = "wrong"
        else:
            trust = self._trust(request, credentials, may_hash=may_hash)
        if trust == "right":
            return PASSED
        if trust == "unknown":
            return None
        is_counted = trust == "wrong" and self._count(request, now, is_failure=not wait)
        if is_open:
            return Decision(is_brief=True, is_counted=is_counted)
        if wait:
            return _too_many(wait, is_counted=is_counted)
        return _unauthorized(credentials, is_counted=is_counted)

    def _count(self, request: Request, now: float, *, is_failure: bool) -> bool:
        """Counts a try with wrong credentials; returns whether it is not logged by itself."""
        if is_failure:
            self._limit.add(request.address, now)
        return not self._refusals.report("wrong credentials", request.address, now)

    def _trust(self, request: Request, credentials: Credentials, *, may_hash: bool) -> _Trust:
        scheme, _, value = request.authorization.partition(" ")
        value = value.strip()
        if scheme.lower() == "bearer":
            return "right" if _is_token(value, credentials.tokens) else "wrong"
        parsed = _user_and_password(value) if scheme.lower() == "basic" and credentials.users else None
        if parsed is None:
            return "wrong"
        user, password = parsed
        if self._passwords.is_known(credentials.users, user, password):
            return "right"
        if not may_hash:
            return "unknown"
        return "right" if self._passwords.is_right(credentials.users, user, password) else "wrong"

    def _is_closed(self, path: str) -> bool:
        return any(path in paths for paths in self._closed)

    def _with_headers(self, decision: Decision) -> Decision:
        headers = self._rules.headers()
        return decision._replace(extra=headers) if headers else decision

    def _is_own_probe(self, request: Request) -> bool:
        return bool(request.probe_key) and is_key(request.probe_key, self._probe_key())


def _user_and_password(text: str) -> tuple[str, bytes] | None:
    """Returns what Basic credentials hold, as RFC 7617 has them; None where they are malformed."""
    try:
        name, colon, password = b64decode(text, validate=True).partition(b":")
    except (Error, ValueError):
        return None
    return (name.decode(errors="surrogateescape"), password) if colon else None


def _is_token(token: str, digests: Collection[bytes]) -> bool:
    """Returns whether a token is one of those with these digests; takes as long whichever it is."""
    wanted = digest(token)
    return sum(compare_digest(wanted, each) for each in digests) > 0


def _unauthorized(credentials: Credentials, *, is_counted: bool) -> Decision:
    schemes = [scheme for scheme, known in ((BASIC, credentials.users), (BEARER, credentials.tokens)) if known]
    headers = tuple(("WWW-Authenticate", scheme) for scheme in schemes)
    return Decision(401, b'{"error":"unauthorized"}', headers, is_counted=is_counted)


def _too_many(wait: int, *, is_counted: bool) -> Decision:
    return Decision(429, b'{"error":"too many requests"}', (("Retry-After", str(wait)),), is_counted=is_counted)
