"""The public calls: `Stator`, and functions that build one for a single use."""

import re
import tempfile
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from wsgiref.types import WSGIApplication

from attrs import evolve

from stator.client.probe import is_ready
from stator.embedding.keywords import Keywords
from stator.embedding.membership import Membership
from stator.embedding.mounting import ASGIMount, PerProcess, WSGIMount
from stator.embedding.parts import Parts, Settings
from stator.embedding.registration import Registration
from stator.settings.declare import ConfigError
from stator.web.access_log import App

if TYPE_CHECKING:
    import falcon


class Stator:
    """Makes an application observable: answers ``/metrics`` and ``/monitor`` in it, and keeps it registered.

    Keywords win over the ``STTR_`` variables that configure the program; those fill in what keywords leave open. A
    variable that nothing reads is logged as a warning.

    Args:
        service: Name of the service; ``STTR_ROSTER_SERVICE_NAME``.
        version: Version of the service, registered as ``version`` in its metadata.
        tags: Tags of the service; ``STTR_ROSTER_SERVICE_TAGS``.
        meta: Metadata of the service; ``STTR_ROSTER_SERVICE_META``.
        consul: Base URI of the Consul agent, ``http://localhost:8500``; ``STTR_CLIENT_BASEURI``.
        collectors: What ``/metrics`` exposes: names as in ``STTR_COLLECTORS``, objects with a method ``collect(now)``,
            and registries of prometheus_client. An object is named by its attribute ``name`` or, without one, by its
            class in lower case. Left open, ``STTR_COLLECTORS`` or else ``runtime``.
        checks: Health checks of ``/monitor`` by name: functions without arguments. A check fails when it raises or
            returns False. Plain functions run in threads, coroutine functions in the event loop (over WSGI, each in an
            event loop of its own).
        check_timeout: Seconds that each check may take; left open, 2.
        environ: The variables; left open, the process's environment.
        log: Where Stator logs; left open, the standard library's logger ``stator``.

    Raises:
        ConfigError: Some keywords or variables can't be used; the message has a line for each.
    """

    def __init__(self, **keywords: Unpack[Keywords]) -> None:
        self._settings = Settings.read(keywords)

    @cached_property
    def _parts(self) -> Parts:
        # Built when first needed: a process that only registers needs no collectors, nor memory shared with workers.
        return Parts(self._settings)

    def asgi_app(self, app: App | None = None) -> App:
        """Returns an ASGI application that answers ``/metrics`` and ``/monitor``.

        Args:
            app: An application to wrap, which gets all other requests; None for an application to mount.

        Raises:
            StartError: A collector can't be built.
        """
        return ASGIMount(PerProcess(self._parts.asgi_app), app)

    def wsgi_app(self, app: WSGIApplication | None = None) -> WSGIApplication:
        """Returns a WSGI application that answers ``/metrics`` and ``/monitor``.

        Args:
            app: An application to wrap, which gets all other requests; None for an application to mount.

        Raises:
            StartError: A collector can't be built.
        """
        return WSGIMount(PerProcess(self._parts.wsgi_app), app)

    def add_routes(self, app: "falcon.App[Any, Any]", *, prefix: str = "") -> None:
        """Adds ``/metrics`` and ``/monitor`` to a Falcon application, for ASGI or for WSGI.

        The application's middleware and error handlers apply to them as to its other routes.

        Args:
            app: The application.
            prefix: Path before the two: ``/internal``.

        Raises:
            ConfigError: The prefix is no path.
            StartError: A collector can't be built.
            TypeError: It is no Falcon application.
        """
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ConfigError([f"prefix={prefix!r}: expected a path such as /internal"])
        import falcon.asgi

        if not isinstance(app, falcon.App):
            msg = f"expected a falcon.App or a falcon.asgi.App, not {app!r}; others have asgi_app() and wsgi_app()"
            raise TypeError(msg)
        suffix = "async" if isinstance(app, falcon.asgi.App) else None
        for path, resource in self._parts.resources().items():
            app.add_route(f"{prefix}{path}", resource, suffix=suffix)
            app.add_route(f"{prefix}{path}/", resource, suffix=suffix)

    def registered(self, port: int, *, host: str = "", monitor: str = "") -> Registration:
        """Returns what keeps the service registered: a context, or an object with ``start()`` and ``stop()``.

        Once started, it waits in a thread until ``/monitor`` answers 200, registers the service, and watches that it
        stays registered. With several workers, the last one to exit unregisters the service, so replacing a worker does
        not. Most servers close their socket before they notify the application, so Consul may briefly list a dead
        endpoint; call ``stop()`` before the server stops if that matters.

        Args:
            port: Port on which the service listens.
            host: Address on which it listens; empty for all addresses.
            monitor: Path of ``/monitor`` where it's mounted, ``/internal/monitor``; empty for the path in
                ``STTR_ROSTER_SERVICE_MONITORSPEC``.

        Raises:
            ConfigError: An argument can't be used; the message has a line for each.
        """
        problems = []
        if port not in range(1, 65536):
            problems.append(f"port={port!r}: expected the number of the port on which the service listens")
        if monitor and not re.fullmatch("/[!-~]*", monitor):
            expected = "a path such as /internal/monitor, percent-encoded where it's not ASCII"
            problems.append(f"monitor={monitor!r}: expected {expected}")
        if problems:
            raise ConfigError(problems)
        config, log = self._settings.config, self._settings.log
        service, base_uri = self._settings.service(monitor), config.client.base_uri
        registrar = config.registrar(log)
        if registrar is None and config.roster.registrar != "none":
            log.warning("not registering: neither consul= nor STTR_CLIENT_BASEURI is set")
        host = "" if host in ("0.0.0.0", "::") else host
        own_url = service.monitor_url(host or "127.0.0.1", port)
        is_serving = partial(is_ready, own_url)
        roster = evolve(config.roster, service=service).build(
            registrar, base_uri, (host, port), is_serving, log, own_url=own_url
        )
        membership = Membership(Path(tempfile.gettempdir()), base_uri, service, host, port)
        return Registration(roster, membership, is_serving, log)


def asgi_app(app: App | None = None, **keywords: Unpack[Keywords]) -> App:
    """Returns `Stator.asgi_app` of a `Stator` with these keywords; raises what the two raise."""
    return Stator(**keywords).asgi_app(app)


def wsgi_app(app: WSGIApplication | None = None, **keywords: Unpack[Keywords]) -> WSGIApplication:
    """Returns `Stator.wsgi_app` of a `Stator` with these keywords; raises what the two raise."""
    return Stator(**keywords).wsgi_app(app)


def add_routes(app: "falcon.App[Any, Any]", *, prefix: str = "", **keywords: Unpack[Keywords]) -> None:
    """Calls `Stator.add_routes` of a `Stator` with these keywords; raises what the two raise."""
    Stator(**keywords).add_routes(app, prefix=prefix)


def registered(port: int, *, host: str = "", monitor: str = "", **keywords: Unpack[Keywords]) -> Registration:
    """Returns `Stator.registered` of a `Stator` with these keywords; raises what the two raise.

    Collectors that ``STTR_COLLECTORS`` names are not loaded for it.
    """
    keywords.setdefault("collectors", ())
    return Stator(**keywords).registered(port, host=host, monitor=monitor)
