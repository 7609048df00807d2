"""The web configuration file of a service that runs, read again when it changes."""

import logging
from contextlib import suppress
from functools import partial

from attrs import evolve

from stator.access.files import ContentError
from stator.access.passwords import check_bcrypt
from stator.access.rate import TokenBucket
from stator.access.rules import Credentials, Rules
from stator.server.tls import ServedTLS, TLSContexts
from stator.server.web_config import WebConfig, read
from stator.settings.declare import StartError
from stator.settings.watched import WatchedFiles

_LOG = logging.getLogger(__name__)


class WebConfigFile(Rules):
    """What the file asks of each request. Made before a fork, it has one rate limit for all processes."""

    def __init__(self, path: str, *, has_tls: bool = True) -> None:
        """Reads the file; raises StartError. `has_tls` is whether its TLS is ours to serve."""
        self._read = partial(read, path, has_tls=has_tls)
        self._last: WebConfig | None = None
        self._bucket = TokenBucket()
        try:
            self._file = WatchedFiles(self._load, [path])
        except (OSError, ValueError) as error:
            msg = f"the web configuration file {path} can't be used: {error}"
            raise StartError(msg) from error

    def current(self) -> WebConfig:
        """Returns what the file says, as of a second ago at most."""
        return self._file.get()

    def credentials(self) -> Credentials | None:
        """Returns who is let in; None where nobody needs credentials."""
        users = self.current().users
        return Credentials(users) if users else None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Returns headers of answers."""
        return self.current().headers

    def take(self) -> bool:
        """Counts a request; returns whether it is within the limit."""
        rate = self.current().rate
        return rate is None or self._bucket.take(rate)

    def contexts(self) -> TLSContexts | None:
        """Returns what new connections need for TLS; None for http. Raises OSError and ValueError."""
        return _Contexts(self) if self.current().tls else None

    def _load(self) -> WebConfig:
        config, last = self._read(), self._last
        if config.users:
            try:
                check_bcrypt()
            except StartError as error:
                msg = f"users whose passwords can be checked ({error})"
                raise ContentError(msg) from error
        if last is not None and bool(config.tls) != bool(last.tls):
            now = "https" if last.tls else "http"
            _LOG.warning("tls_server_config can't be added or removed while the service runs: it goes on with %s", now)
            config = evolve(config, tls=last.tls)
        self._last = config
        return config


class _Contexts:
    """Contexts for TLS as the file says, made of the files that it names."""

    def __init__(self, file: WebConfigFile) -> None:
        self._file, self._tls = file, file.current().tls
        assert self._tls is not None  # noqa: S101 # https is served
        self._contexts = self._tls.watch()

    def get(self) -> ServedTLS:
        tls = self._file.current().tls
        if tls is not None and tls is not self._tls:
            # A certificate that has changed since the file was read is looked at again with the next connection.
            with suppress(OSError, ValueError):
                self._contexts = tls.watch()
                self._tls = tls
        return self._contexts.get()
