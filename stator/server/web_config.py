"""The web configuration file of Prometheus' exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from attrs import field, frozen
from msgspec import Struct

from stator.access.files import ContentError, cost_warning, is_hash, read_whole, warnings_of
from stator.access.rate import RateLimit
from stator.server.tls import TLSOptions
from stator.server.web_config_tls import TLSServerConfig, check_boolean, one_of, tls_options
from stator.settings.declare import StartError
from stator.settings.duration import Duration

# What can be set, and the values that it can have; none: any.
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HEADER_VALUE = re.compile(r"[\t -~]*")
_KINDS = {"object": "a mapping", "array": "a list", "str": "a text", "int": "an integer"}
_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"


class HTTPServerConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """The table `http_server_config`."""

    http2: str = "true"
    headers: dict[str, str] = {}


class RateLimitConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """The table `rate_limit`."""

    interval: str = "0"
    burst: int = 0


class Tables(Struct, forbid_unknown_fields=True, frozen=True):
    """The file."""

    tls_server_config: TLSServerConfig = TLSServerConfig()
    http_server_config: HTTPServerConfig = HTTPServerConfig()
    rate_limit: RateLimitConfig = RateLimitConfig()
    basic_auth_users: dict[str, str] = {}


@frozen
class WebConfig:
    """What a file says."""

    tls: TLSOptions | None = None  # None: http
    users: Mapping[str, str] = field(factory=dict, repr=False)  # bcrypt hashes by name; empty: all may ask
    headers: tuple[tuple[str, str], ...] = ()
    rate: RateLimit | None = None


def read(path: str, *, has_tls: bool = True) -> WebConfig:
    """Returns what a file says, without its TLS where that is not wanted; raises OSError and ContentError.

    No error shows a hash or a key.
    """
    tables = _tables(path)
    check_boolean("http_server_config.http2", tables.http_server_config.http2)
    for name, hashed in tables.basic_auth_users.items():
        if not is_hash(hashed):
            msg = f"basic_auth_users.{name} to be a hash of bcrypt, as htpasswd -B writes it"
            raise ContentError(msg)
    return WebConfig(
        tls_options(tables.tls_server_config, Path(path).parent) if has_tls else None,
        tables.basic_auth_users,
        tuple(_headers(tables.http_server_config.headers)),
        _rate(tables.rate_limit),
    )


def read_at_start(path: str) -> WebConfig:
    """Returns what `read` does; raises StartError."""
    try:
        return read(path)
    except (OSError, ContentError) as error:
        msg = f"the web configuration file {path} can't be used: {error}"
        raise StartError(msg) from error


def has_tls(path: str) -> bool:
    """Returns whether a file says how to serve https; raises OSError and ContentError."""
    return _tables(path).tls_server_config.is_enabled


def warnings(path: str) -> Iterator[str]:
    """Yields what is weak about a file; raises OSError and ContentError."""
    tables = _tables(path)
    tls = tables.tls_server_config
    if tables.basic_auth_users or tls.key:
        yield from warnings_of(path)
    for name, hashed in tables.basic_auth_users.items():
        yield from cost_warning(f"{path}, basic_auth_users.{name}", hashed)


def _tables(path: str) -> Tables:
    data = read_whole(path)
    try:
        tree = yaml.load(data.decode(), _Loader)  # noqa: S506 # derived from the safe one
        return msgspec.convert({} if tree is None else _without_nulls(tree), Tables, strict=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" in line {mark.line + 1}" if mark else ""
        # The rest of the message may quote what is secret.
        msg = f"YAML without errors, and there is one{place}"
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, TypeError):
        msg = "YAML in UTF-8"
    except msgspec.ValidationError as error:
        msg = _reworded(str(error))
    raise ContentError(msg) from None


class _Loader(yaml.SafeLoader):
    """Returns all scalars but null as texts, and refuses a key that comes twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 # PyYAML's
        first: [(tag, pattern) for tag, pattern in pairs if tag in (_NULL, _MERGE)]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen if isinstance(key, yaml.ScalarNode) else True:
                raise yaml.constructor.ConstructorError(None, None, "a key that comes twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _without_nulls(tree: Any) -> Any:
    """Returns a tree in which what is null is left out, as if it were not there, or is empty where it must be there."""
    if isinstance(tree, dict):
        users = tree.get("basic_auth_users")
        if isinstance(users, dict):
            tree["basic_auth_users"] = {name: hashed or "" for name, hashed in users.items()}
        return {name: _without_nulls(each) for name, each in tree.items() if each is not None}
    if isinstance(tree, list):
        return ["" if each is None else _without_nulls(each) for each in tree]
    return tree


def _reworded(text: str) -> str:
    """Returns what was expected, by an error of msgspec's."""
    problem, _, path = text.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        return f"the keys of exporter-toolkit's format, and {'.'.join(filter(None, (path, unknown[1])))} is none"
    if kind := re.fullmatch(r"Expected `(\w+).*?`, got .*", problem):
        return f"{path or 'the file'} to be {_KINDS.get(kind[1], kind[1])}"
    return f"{path or 'the file'} to be right: {problem}"


def _headers(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if name not in HEADERS:
            msg = f"http_server_config.headers to have none but {', '.join(HEADERS)}, and {name} is another"
            raise ContentError(msg)
        if HEADERS[name]:
            one_of(f"http_server_config.headers.{name}", value, HEADERS[name])
        if not _HEADER_VALUE.fullmatch(value):
            msg = f"http_server_config.headers.{name} to be in ASCII, and in one line"
            raise ContentError(msg)
        yield name, value


def _rate(config: RateLimitConfig) -> RateLimit | None:
    try:
        # Of a number without a unit the toolkit takes nanoseconds.
        interval = Duration(config.interval) if config.interval.isdigit() else Duration.parse(config.interval)
    except ValueError:
        msg = f"rate_limit.interval to be a duration such as 250ms, not {config.interval!r}"
        raise ContentError(msg) from None
    return RateLimit(interval.seconds, config.burst) if interval else None
