"""What stands before the program's own application and may refuse a request."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

from stator.access.config import AccessConfig
from stator.access.proxies import TrustedProxies
from stator.log.logger import Log
from stator.settings.paths import PathSet
from stator.web.access_log import App, Scope

if TYPE_CHECKING:
    from stator.access.rules import Rules


class Stack(NamedTuple):
    """An application behind what may refuse its requests, and what the log of requests must know of that."""

    app: App
    proxies: TrustedProxies  # whose word on where a request comes from is taken
    is_doubtful: Callable[[Scope], bool]  # returns whether a request may be refused for its credentials


def stacked(
    app: App,
    log: Log,
    access: AccessConfig,
    *,
    rules: "Rules | None",
    probe_key: str,
    client_names: Collection[str] | None,
) -> Stack:
    """Returns the application behind all that may refuse a request; raises StartError.

    Args:
        app: What answers.
        log: Where refusals are logged.
        access: Who may ask for what.
        rules: Further ones, which a file has and which may change.
        probe_key: The key by which our own probes are known.
        client_names: Names, of which a client's certificate must have one; empty: any; None: clients need none.
    """
    proxies, is_doubtful = access.proxies(), lambda _: False
    if guard := access.build(log, lambda: probe_key, rules):
        from stator.web.guarded import doubts, guarded_asgi  # most services have none

        app, is_doubtful = guarded_asgi(app, guard, proxies), doubts(guard, proxies)
    if client_names is not None:
        from stator.web.certificates import ClientCertificateMiddleware

        app = ClientCertificateMiddleware(app, frozenset(client_names), PathSet(access.open_paths), probe_key)
    return Stack(app, proxies, is_doubtful)
