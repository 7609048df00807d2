"""Lets in requests of clients whose certificate the server has accepted."""

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from attrs import field, frozen

from stator.access.requests import is_own_probe
from stator.log.counted import CountedLog
from stator.settings.paths import PathSet
from stator.web.access_log import App, Receive, Scope, Send

_NEEDED, _NOT_ALLOWED = (
    b'{"error":"%s"}' % text for text in (b"a client certificate is needed", b"this client certificate is not allowed")
)


@frozen
class ClientCertificateMiddleware:
    """ASGI middleware that answers 403 to requests without a client certificate, or with one of another name."""

    _app: App
    _names: AbstractSet[str]  # of which a certificate must have one; empty: any
    _open_paths: PathSet  # which need none
    _probe_key: str  # by which our own probes are known, which have none
    _log: CountedLog = field(factory=lambda: CountedLog(logging.getLogger(__name__)), init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        is_http = scope["type"] == "http"
        if not is_http or scope["path"] in self._open_paths or is_own_probe(scope, self._probe_key):
            await self._app(scope, receive, send)
            return
        tls = scope.get("extensions", {}).get("tls", {})
        problem = certificate_problem(tls, self._names)
        if not problem:
            await self._app(scope, receive, send)
            return
        host = (scope.get("client") or ("a client",))[0].removeprefix("::ffff:")
        self._log.warning(f"refused requests from {host}: {problem}")
        body = _NOT_ALLOWED if tls.get("client_cert_chain") else _NEEDED
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def certificate_problem(tls: Mapping[str, Any], names: AbstractSet[str]) -> str:
    """Returns why the client of a connection may not ask, by ASGI's TLS extension; empty if it may."""
    if not tls.get("client_cert_chain"):
        return "it has no client certificate, which STTR_SERVER_CLIENTCAFILE asks for"
    if names and names.isdisjoint(tls.get("client_cert_names", ())):
        return f"its certificate is that of {tls.get('client_cert_name')}, not of one of STTR_SERVER_CLIENTNAMES"
    return ""
