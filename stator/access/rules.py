"""Rules that a file sets, and that may change while the service runs."""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple


class Credentials(NamedTuple):
    """Who is let in: bcrypt hashes by user, and digests of tokens, as `files.digest` makes them."""

    users: Mapping[str, str] = MappingProxyType({})
    tokens: Collection[bytes] = ()


class Rules:
    """Rules for all requests: without others, who is let in. Thread-safe.

    `credentials` returns that, at each request; None where nobody needs credentials.
    """

    def __init__(self, credentials: Callable[[], Credentials | None] = lambda: None) -> None:
        self._credentials = credentials

    def credentials(self) -> Credentials | None:
        """Returns who is let in; None where nobody needs credentials."""
        return self._credentials()

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Returns headers that answers have."""
        return ()

    def take(self) -> bool:
        """Counts a request; returns whether it is within the limit of all clients together."""
        return True


class WithMore(Rules):
    """The same rules, but others are let in too."""

    def __init__(self, rules: Rules, others: Callable[[], Credentials]) -> None:
        super().__init__(lambda: _joined(rules.credentials() or Credentials(), others()))
        self._rules = rules

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Returns headers that answers have."""
        return self._rules.headers()

    def take(self) -> bool:
        """Counts a request; returns whether it is within the limit of all clients together."""
        return self._rules.take()


def _joined(first: Credentials, second: Credentials) -> Credentials:
    return Credentials({**first.users, **second.users}, (*first.tokens, *second.tokens))
