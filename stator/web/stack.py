"""What stands before the program's own application: the log of requests, and who may ask for what."""

from collections.abc import Collection

from stator.access.config import AccessConfig
from stator.log.logger import Log, LoggerConfig
from stator.settings.paths import PathSet
from stator.web.access_log import AccessLogMiddleware, App


def stacked(
    app: App,
    log: Log,
    access: AccessConfig,
    *,
    probe_key: str,
    client_names: Collection[str] | None,
    logger: LoggerConfig,
    secret_headers: frozenset[str],
    timeout: float,
) -> App:
    """Returns the application behind the log of requests and all that may refuse one; raises StartError.

    Args:
        app: What answers.
        log: Where requests and refusals are logged.
        access: Who may ask for what.
        probe_key: The key by which our own probes are known.
        client_names: Names, of which a client's certificate must have one; empty: any; None: clients need none.
        logger: How much of a request is logged.
        secret_headers: Names of headers that are not logged, in lower case.
        timeout: Seconds that a request's body may take.
    """
    proxies, is_doubtful = access.proxies(), lambda _: False
    if guard := access.build(log, lambda: probe_key):
        from stator.web.guarded import doubts, guarded_asgi  # most services have none

        app, is_doubtful = guarded_asgi(app, guard, proxies), doubts(guard, proxies)
    if client_names is not None:
        from stator.web.certificates import ClientCertificateMiddleware

        app = ClientCertificateMiddleware(app, frozenset(client_names), PathSet(access.open_paths), probe_key)
    mode = "full" if logger.access == "auto" else logger.access
    return AccessLogMiddleware(
        app, log, secret_headers, timeout, PathSet(logger.quiet_paths), mode, proxies, is_doubtful
    )
