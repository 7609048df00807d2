"""The targets of the collector `scrape`, and the file that says how each is asked."""

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from string import punctuation
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, quote, urlsplit

from attrs import frozen
from msgspec import Struct, ValidationError, convert

from stator.client.headers import is_header
from stator.settings.declare import Secret
from stator.settings.masking import KnownSecrets, Mask, mask_uris

if TYPE_CHECKING:
    from ssl import SSLContext

FORMS = "http://host:port/path, https://... or name=http://..."
_NAMED = re.compile(r"([^=:/?#\s]+)=(.*)")
S = TypeVar("S", bound=Struct)


class OptionsError(Exception):
    """The file of options can't be used; the message says why, without secrets."""


@frozen(eq=False, repr=False)
class Target:
    """Something that answers with metrics.

    Attributes:
        name: As the setting has it; empty if it has none.
        key: Names its table in the file of options: its name, or the URI as the setting has it.
        label: Value of the label ``target``: its name, or the URI without secrets.
    """

    uri: SplitResult
    name: str
    key: str
    label: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Returns a target of a setting; raises ValueError where it is none. A URI without a path means /metrics."""
        named = _NAMED.fullmatch(text)
        name, uri = named.groups() if named else ("", text)
        parts = urlsplit(uri)
        (parts.hostname or "").encode("idna")
        is_whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if not is_whole or "@" in parts.netloc or parts.fragment:
            msg = f"expected {FORMS}, without a user"
            raise ValueError(msg)
        # Quotes what can't stand in a request line, and leaves what is quoted already.
        path, query = (quote(part, safe=punctuation) for part in (parts.path or "/metrics", parts.query))
        return cls(parts._replace(path=path, query=query), name, name or uri, name or mask_uris(uri))


# The names of Prometheus' configuration: https://prometheus.io/docs/prometheus/latest/configuration/configuration/
class BasicAuth(Struct, forbid_unknown_fields=True, frozen=True):
    """A user and a password."""

    username: str = ""
    password: str = ""
    password_file: str = ""


class Authorization(Struct, forbid_unknown_fields=True, frozen=True):
    """What the header Authorization says."""

    type: str = "Bearer"
    credentials: str = ""
    credentials_file: str = ""


class TLSConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """How an https target is trusted, and what it is shown."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    insecure_skip_verify: bool = False


TABLES: dict[str, type[Struct]] = {
    "basic_auth": BasicAuth,
    "authorization": Authorization,
    "tls_config": TLSConfig,
}


def tls_context(config: TLSConfig, folder: Path) -> "SSLContext":
    """Returns the context of a new connection; raises OSError or ValueError for a file that can't be used."""
    from stator.client import transport

    paths = (str(folder / file) if file else "" for file in (config.ca_file, config.cert_file, config.key_file))
    return transport.tls_context(*paths, skip_verify=config.insecure_skip_verify)


def default_tls_context() -> "SSLContext":
    """Returns a context that trusts the system's authorities."""
    return tls_context(TLSConfig(), Path())


@frozen(eq=False, repr=False)
class Options:
    """How a target is asked: by default without credentials, and trusting the system's authorities."""

    tls: Callable[[], "SSLContext"] = default_tls_context
    scheme: str = ""  # of the header Authorization
    username: str | None = None  # the secret is its password
    secret: Secret = Secret()  # noqa: RUF009 # it is empty, and never changes

    def headers(self) -> dict[str, str]:
        """Returns the header Authorization, with the secret as it is now; raises OptionsError if it can't be sent."""
        if not self.scheme:
            return {}
        secret = self.secret.reveal()
        if self.username is not None:
            secret = b64encode(f"{self.username}:{secret}".encode()).decode()  # RFC 7617, section 2.1
        value = f"{self.scheme} {secret}".rstrip()
        if not is_header("Authorization", value):
            msg = "its credentials can't be sent in a header: they hold a control character"
            raise OptionsError(msg)
        return {"Authorization": value}

    def mask(self) -> Mask:
        """Returns what masks the secret in texts."""
        return KnownSecrets([self.secret], user=self.username or "").mask


def load(path: str, targets: Collection[Target]) -> dict[str, Options]:
    """Returns the options of targets by their keys; raises OptionsError."""
    import tomllib

    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        # The place alone: what is there may be a secret.
        place = re.search(r"\(at [^()]*\)$", str(error))
        reason = getattr(error, "strerror", None) or f"it's not TOML{f' {place[0]}' if place else ''}"
        raise OptionsError(reason) from None
    if unknown := [mask_uris(key) for key in content if key not in {target.key for target in targets}]:
        msg = f"[{unknown[0]}] is no target of STTR_SCRAPE_TARGETS: expected a name, or the URI of one without a name"
        raise OptionsError(msg)
    return {key: _options(mask_uris(key), tables, Path(path).parent) for key, tables in content.items()}


def _options(name: str, tables: object, folder: Path) -> Options:
    if not isinstance(tables, Mapping) or not tables.keys() <= TABLES.keys():
        msg = f"[{name}]: expected {', '.join(TABLES)} and nothing else"
        raise OptionsError(msg)
    if {"basic_auth", "authorization"} <= tables.keys():
        msg = f"[{name}]: expected basic_auth or authorization, not both"
        raise OptionsError(msg)
    try:
        config = _table(tables, TLSConfig, "tls_config")
        basic, other = _table(tables, BasicAuth, "basic_auth"), _table(tables, Authorization, "authorization")
        tls = _tls(config, folder)
        if "basic_auth" in tables:
            secret = _secret("password", basic.password, basic.password_file, folder)
            return Options(tls, "Basic", basic.username, secret)
        if "authorization" in tables:
            secret = _secret("credentials", other.credentials, other.credentials_file, folder)
            return Options(tls, other.type, None, secret)
    except OptionsError as error:
        msg = f"[{name}]: {error}"
        raise OptionsError(msg) from None
    return Options(tls)


def _table(tables: Mapping[str, object], type_: type[S], name: str) -> S:
    try:
        return convert(tables.get(name, {}), type_)
    except ValidationError:
        # Its message would name what is unknown, which may be a secret in the wrong place.
        flags = {"insecure_skip_verify": "insecure_skip_verify (true or false)"}
        names = ", ".join(flags.get(each, each) for each in type_.__struct_fields__)
        msg = f"{name}: expected {names} and nothing else, as texts in quotes"
        raise OptionsError(msg) from None


def _secret(name: str, text: str, file: str, folder: Path) -> Secret:
    if bool(text) == bool(file):
        msg = f"expected {name} or {name}_file, and not both"
        raise OptionsError(msg)
    try:
        return Secret.from_file(folder / file) if file else Secret(text)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{name}_file: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        raise OptionsError(msg) from None


def _tls(config: TLSConfig, folder: Path) -> Callable[[], "SSLContext"]:
    """Returns what makes a target's contexts; raises OptionsError where a file can't be used now."""
    if config.key_file and not config.cert_file:
        msg = "key_file: expected a cert_file too"
        raise OptionsError(msg)
    authorities = TLSConfig(ca_file=config.ca_file)
    for names, part in (("ca_file", authorities), ("cert_file, key_file", config)):
        try:
            tls_context(part, folder)
        except (OSError, ValueError) as error:
            msg = f"{names}: {getattr(error, 'strerror', None) or error}"
            raise OptionsError(msg) from None
    return partial(tls_context, config, folder)


def problems(targets: tuple[str, ...], path: str) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with the settings `targets` and `config_file`."""
    parsed: list[Target] = []
    for nth, text in enumerate(targets, 1):
        try:
            parsed.append(Target.parse(text))
        except ValueError:
            yield "targets", f"a comma-separated list of {FORMS}, without a user; number {nth} is none of them"
            return
    labels = [target.label for target in parsed]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        yield "targets", f"a name for each of several targets that look alike, but there are two called {twice[0]}"
    if path:
        try:
            load(path, parsed)
        except OptionsError as error:
            yield "config_file", f"a readable TOML file of targets' options; {error}"
