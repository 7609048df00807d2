"""Settings of who may ask for what; their variables belong to the server."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from attrs import frozen

from stator.access.endpoints import ALL, OPEN_PATHS
from stator.access.networks import Networks, are_networks
from stator.access.proxies import TrustedProxies
from stator.log.logger import Log
from stator.settings.declare import Constraint, StartError, setting
from stator.settings.paths import PathSet

if TYPE_CHECKING:
    from stator.access.guard import Guard
    from stator.access.rules import Credentials, Rules


@frozen(eq=False, repr=False)
class AccessConfig:
    """Who may ask for what."""

    users_file: str = setting("", desc="htpasswd file with bcrypt: users of basic auth")
    tokens_file: str = setting("", desc="file with a bearer token in each line")
    allow: tuple[str, ...] = setting(
        (), desc="addresses and networks that may ask, unix for Unix sockets; unset: all", check=are_networks
    )
    open_paths: tuple[str, ...] = setting(
        OPEN_PATHS, desc="paths that need no credentials, /path/* for all below; without, /monitor shows no details"
    )
    endpoints: tuple[str, ...] = setting(
        ALL,
        desc="which of metrics, monitor, config and status answer",
        check=Constraint(f"some of {', '.join(ALL)}", lambda names: {*names} <= {*ALL}),
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), desc="proxies whose X-Forwarded-For and Forwarded are believed, as in ALLOW", check=are_networks
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields what is wrong with paths, or with the files; never what is in those."""
        if wrong := [path for path in self.open_paths if not path.startswith("/")]:
            yield "open_paths", f"paths that begin with a slash, not {', '.join(wrong)}"
        if not self.endpoints:
            yield "endpoints", f"one at least of {', '.join(ALL)}"
        for name, path, read in self._files():
            from stator.access.files import ContentError

            try:
                read(path)
            except OSError as error:
                yield name, f"a readable file ({error.strerror})"
            except ContentError as error:
                yield name, error.expected

    def warnings(self) -> Iterator[str]:
        """Yields what is weak about the files, and that what others look at is closed."""
        if "monitor" not in self.endpoints:
            yield "STTR_SERVER_ENDPOINTS leaves out monitor: what checks /monitor, as Consul does, gets 404"
        if not (self.users_file or self.tokens_file):
            return
        from stator.access.files import ContentError, costly_hashes, short_tokens, warnings_of

        with suppress(OSError, ContentError):
            for _, path, _ in self._files():
                yield from warnings_of(path)
            if self.users_file:
                yield from costly_hashes(self.users_file)
            if self.tokens_file:
                yield from short_tokens(self.tokens_file)

    def proxies(self) -> TrustedProxies:
        """Returns whose headers are believed."""
        return TrustedProxies(Networks(self.trusted_proxies))

    def build(
        self, log: Log, probe_key: Callable[[], str] = lambda: "", rules: "Rules | None" = None
    ) -> "Guard | None":
        """Returns what decides on each request; None where all may ask for all. Raises StartError.

        `rules` are further ones, which may change.
        """
        needs_credentials = self.users_file or self.tokens_file
        if not needs_credentials and not self.allow and {*self.endpoints} == {*ALL} and rules is None:
            return None
        from stator.access.guard import Guard
        from stator.access.rules import Rules, WithMore

        rules = rules or Rules()
        return Guard(
            log,
            WithMore(rules, self._credentials()) if needs_credentials else rules,
            allow=Networks(self.allow),
            open_paths=PathSet(self.open_paths),
            endpoints=self.endpoints,
            probe_key=probe_key,
        )

    def _credentials(self) -> "Callable[[], Credentials]":
        """Returns what returns the files' users and tokens; raises StartError if they can't be used."""
        from stator.access.files import read_tokens, read_users
        from stator.access.passwords import check_bcrypt
        from stator.access.rules import Credentials
        from stator.settings.watched import WatchedFiles

        users_file, tokens_file, users, tokens = self.users_file, self.tokens_file, None, None
        try:
            if users_file:
                check_bcrypt()
                users = WatchedFiles(lambda: read_users(users_file), [users_file])
            if tokens_file:
                tokens = WatchedFiles(lambda: read_tokens(tokens_file), [tokens_file])
        except (OSError, ValueError) as error:
            msg = f"users and tokens can't be read: {error}"
            raise StartError(msg) from error
        return lambda: Credentials(users.get() if users else {}, tokens.get() if tokens else ())

    def _files(self) -> Iterator[tuple[str, str, Callable[[str], object]]]:
        # What hashes takes a while to import, and most services have neither file.
        if not (self.users_file or self.tokens_file):
            return
        from stator.access.files import read_tokens, read_users

        if self.users_file:
            yield "users_file", self.users_file, read_users
        if self.tokens_file:
            yield "tokens_file", self.tokens_file, read_tokens
