"""What is known of a request by which is decided, read out of ASGI's scope or WSGI's environ."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from stator.access.probes import KEY_HEADER, is_key
from stator.access.proxies import TrustedProxies

_AUTHORIZATION, _KEY = b"authorization", KEY_HEADER.lower().encode()
_ENVIRON_KEY = f"HTTP_{KEY_HEADER.upper().replace('-', '_')}"
_FORWARDED_FOR, _FORWARDED = b"x-forwarded-for", b"forwarded"


class Request(NamedTuple):
    """What is known of a request; texts are empty where there is none."""

    address: str
    path: str
    authorization: str = ""
    probe_key: str = ""


def remote_of_scope(scope: Mapping[str, Any], proxies: TrustedProxies) -> tuple[str, str]:
    """Returns the address and the port from which an ASGI request came; empty ones for a Unix socket."""
    host, port = scope.get("client") or ("", 0)
    host, port = (host or "").removeprefix("::ffff:"), str(port or "")
    if not proxies:
        return host, port
    return _remote(host, port, proxies.client(host, _joined(scope, _FORWARDED_FOR), _joined(scope, _FORWARDED)))


def remote_of_environ(environ: Mapping[str, Any], proxies: TrustedProxies) -> tuple[str, str]:
    """Returns the address and the port from which a WSGI request came; empty ones for a Unix socket."""
    get = environ.get
    host, port = (get("REMOTE_ADDR") or "").removeprefix("::ffff:"), str(get("REMOTE_PORT") or "")
    if not proxies:
        return host, port
    return _remote(host, port, proxies.client(host, get("HTTP_X_FORWARDED_FOR", ""), get("HTTP_FORWARDED", "")))


def _remote(host: str, port: str, client: str) -> tuple[str, str]:
    """Returns a client, with the port of whoever has connected if that is the client."""
    return client, port if client == host else ""


def request_of_scope(scope: Mapping[str, Any], proxies: TrustedProxies) -> Request:
    """Returns what is known of an ASGI request."""
    authorization, key = _joined(scope, _AUTHORIZATION), _joined(scope, _KEY)
    return Request(remote_of_scope(scope, proxies)[0], scope["path"], authorization, key)


def request_of_environ(environ: Mapping[str, Any], proxies: TrustedProxies) -> Request:
    """Returns what is known of a WSGI request."""
    get, key = environ.get, environ.get(_ENVIRON_KEY, "")
    address, _ = remote_of_environ(environ, proxies)
    return Request(address, get("PATH_INFO", ""), get("HTTP_AUTHORIZATION", ""), key)


def is_own_probe(scope: Mapping[str, Any], key: str) -> bool:
    """Returns whether an ASGI request has the key of our own probes."""
    return is_key(_joined(scope, _KEY), key)


def _joined(scope: Mapping[str, Any], name: bytes) -> str:
    """Returns a header's value; one that comes twice is as one with a comma."""
    return b",".join([value for each, value in scope["headers"] if each == name]).decode("latin-1")
