"""The public calls: `Stator`, and functions that build one for a single use."""

import re
from functools import cached_property, partial
from typing import Any, Unpack
from wsgiref.types import WSGIApplication

import falcon.asgi
from attrs import evolve

from stator.collectors.catalog import Collectors
from stator.embedding.keywords import Keywords, is_port
from stator.embedding.mounting import ENDPOINTS, PerProcess, asgi_mount, wsgi_mount
from stator.embedding.parts import Parts
from stator.embedding.registration import KeeperTask, Registration
from stator.embedding.serving import Serving
from stator.embedding.settings import Settings, with_service
from stator.instrumentation.asgi import observe_asgi
from stator.instrumentation.sharing import share_metrics
from stator.instrumentation.wsgi import observe_wsgi
from stator.processes.wrapped import is_wrapped
from stator.server.listener import listen
from stator.settings.declare import ConfigError
from stator.settings.masking import mask_setting
from stator.web.access_log import App


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
        share_metrics: Whether to call `stator.share_metrics`, with the group in ``STTR_METRICS_GROUP`` if that is set.
        page: Whether ``/status/page`` shows the state of the service, with live plots, and ``/status`` as JSON.
        environ: The variables; left open, the process's environment.
        log: Where Stator logs; left open, the standard library's logger ``stator``.

    Raises:
        ConfigError: Some keywords or variables can't be used; the message has a line for each.
    """

    def __init__(self, **keywords: Unpack[Keywords]) -> None:
        self._settings = Settings.read(keywords)
        self._address: tuple[str, int] | None = None
        if keywords.get("share_metrics"):
            share_metrics(self._settings.config.metrics.group or None)

    @cached_property
    def _parts(self) -> Parts:
        # Built when first needed: a process that only registers needs no collectors, nor memory shared with workers.
        return Parts(self._settings, lambda: self._address)

    def asgi_app(self, app: App | None = None) -> App:
        """Returns an ASGI application that answers ``/metrics`` and ``/monitor``.

        Args:
            app: An application to wrap, which gets all other requests; None for an application to mount.

        Raises:
            StartError: A collector can't be built.
        """
        wrapped = app and observe_asgi(app, self._parts.observer())
        return asgi_mount(PerProcess(self._parts.asgi_app), wrapped, has_page=self._settings.has_page)

    def wsgi_app(self, app: WSGIApplication | None = None) -> WSGIApplication:
        """Returns a WSGI application that answers ``/metrics`` and ``/monitor``.

        Args:
            app: An application to wrap, which gets all other requests; None for an application to mount.

        Raises:
            StartError: A collector can't be built.
        """
        wrapped = app and observe_wsgi(app, self._parts.observer())
        return wsgi_mount(PerProcess(self._parts.wsgi_app), wrapped, has_page=self._settings.has_page)

    def add_routes(self, app: "falcon.App[Any, Any]", *, prefix: str = "") -> None:
        """Adds ``/metrics`` and ``/monitor`` to a Falcon application, for ASGI or for WSGI.

        The application's middleware and error handlers apply to them as to its other routes.

        Args:
            app: The application.
            prefix: Path before them: ``/internal``.

        Raises:
            ConfigError: The prefix is no path.
            StartError: A collector can't be built.
            TypeError: It is no Falcon application.
        """
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ConfigError([f"prefix={prefix!r}: expected a path such as /internal"])
        if not isinstance(app, falcon.App):
            msg = f"expected a falcon.App or a falcon.asgi.App, not {app!r}; others have asgi_app() and wsgi_app()"
            raise TypeError(msg)
        suffix = "async" if isinstance(app, falcon.asgi.App) else None
        for path, resource in self._parts.resources().items():
            app.add_route(f"{prefix}{path}", resource, suffix=suffix)
            if path in ENDPOINTS:  # what the page links to is relative to its path
                app.add_route(f"{prefix}{path}/", resource, suffix=suffix)

    def serve(self, port: int | None = None, *, host: str | None = None) -> Serving:
        """Answers ``/metrics`` and ``/monitor`` from threads, for a program that has no server: a consumer or a script.

        Args:
            port: Port on which to listen, 0 for any that is free; left open, ``STTR_SERVER_PORT``.
            host: Address on which to listen, empty for all; left open, ``STTR_SERVER_HOST``.

        Returns:
            An object with the ``port`` and ``stop()``; a context, too. Without either it serves until the program ends.

        Raises:
            ConfigError: The port is none.
            StartError: It can't listen, or a collector can't be built.
        """
        server = self._settings.config.server
        port = server.port if port is None else port
        if not is_port(port, lowest=0):
            raise ConfigError([f"port={port!r}: expected the number of a port, or 0 for any that is free"])
        listener = listen(server.host if host is None else host, port)
        return Serving(self.wsgi_app(), listener, server.timeout.seconds, self._settings.log)

    def registered(self, port: int, *, host: str = "", monitor: str = "") -> Registration:
        """Returns what keeps the service registered: a context, or an object with ``start()`` and ``stop()``.

        Once started, a process of its own, the keeper, waits until ``/monitor`` answers 200, registers the service, and
        watches that it stays registered. It logs to stderr. All processes that serve at the same port share it, so that
        a reload or a replaced worker changes nothing: it unregisters the service when the last one has stopped and no
        other has come within 2 seconds, 30 while its port listens, or when the server's main process has ended.

        Started in the server's main process (``when_ready`` in gunicorn.conf.py, the lifespan under uvicorn without
        workers), it also delays SIGTERM and SIGINT: first the service is unregistered, then ``STTR_ROSTER_DRAIN``
        passes while it still answers, then the server stops. Started in workers, the server stops first.

        Where the end of the server ends all other processes, too, as that of process 1 ends a container, and as systemd
        does with ``KillMode=mixed``, only ``stop()`` in the main process unregisters.

        Args:
            port: Port on which the service listens.
            host: Address on which it listens; empty for all addresses.
            monitor: Path of ``/monitor`` where it's mounted, ``/internal/monitor``; empty for the path in
                ``STTR_ROSTER_SERVICE_MONITORSPEC``.

        Raises:
            ConfigError: An argument can't be used; the message has a line for each.
        """
        problems = []
        if not is_port(port):
            problems.append(f"port={port!r}: expected the number of the port on which the service listens")
        if monitor and not re.fullmatch("/[!-~]*", monitor):
            expected = "a path such as /internal/monitor, percent-encoded where it's not ASCII"
            problems.append(f"monitor={mask_setting(monitor)!r}: expected {expected}")
        if problems:
            raise ConfigError(problems)
        config, log = self._settings.config, self._settings.log
        if not config.registers:
            if config.roster.registrar != "none":
                log.warning("not registering: neither consul= nor STTR_CLIENT_BASEURI is set")
            return Registration(None, log)
        if is_wrapped():
            log.warning("not registering: this program is wrapped, and registered by what wraps it")
            return Registration(None, log)
        if monitor:
            config = with_service(config, monitor_spec=f"http://%s:%d{monitor.replace('%', '%%')}")
        config = evolve(config, collectors=Collectors())  # the keeper does not load them
        self._address = "" if host in ("0.0.0.0", "::") else host, port
        return Registration(partial(KeeperTask, config, *self._address), log)


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
