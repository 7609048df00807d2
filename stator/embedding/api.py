"""Stator inside an application of your own: one call gives it /metrics and /monitor, another keeps it registered.

Settings are those of the program: ``STTR_`` variables, of the process's environment unless others are given. What is
given as an argument wins over them.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

from stator.client.probe import is_ready
from stator.config import Config
from stator.embedding.membership import Membership
from stator.embedding.mounting import (
    METRICS,
    MONITOR,
    ASGIMount,
    ASGIResource,
    PerProcess,
    WSGIMount,
    WSGIResource,
)
from stator.embedding.parts import PREFIX, Parts, own_log
from stator.embedding.registration import Registration
from stator.log.logger import Log
from stator.points import Collector
from stator.settings.environment import decode
from stator.web import app as web
from stator.web.access_log import App
from stator.web.checks import TIMEOUT, Check
from stator.web.metrics import Metrics, MetricsWSGI
from stator.web.monitor import Monitor, MonitorWSGI

if TYPE_CHECKING:
    import falcon

HIGHEST_PORT = 65535


def asgi_app(
    app: App | None = None,
    *,
    collectors: Iterable[str | Collector] | None = None,
    checks: Mapping[str, Check] | None = None,
    check_timeout: float = TIMEOUT,
    environ: Mapping[str, str] | None = None,
    log: Log | logging.Logger | None = None,
) -> App:
    """An ASGI application that answers ``/metrics`` and ``/monitor``.

    Mount it under a path of yours, or wrap it around your application, which then gets all other requests.

    Args:
        app: The application to be wrapped; None for what is to be mounted.
        collectors: Names of built-in collectors or of your own as ``module:Class``, and collectors; one of these goes
            by its class's name in lower case, or its attribute ``name``. None for those in ``STTR_COLLECTORS``, or
            ``runtime`` where that is not set.
        checks: Health checks by name: functions, plain ones or coroutine functions, that raise or give False when
            something is wrong. Plain ones run in threads, coroutines in the event loop.
        check_timeout: Seconds that each check may take.
        environ: ``STTR_`` variables; None for the process's environment.
        log: Where Stator tells what happens; None for the standard library's logger ``stator``.

    Raises:
        ConfigError: A variable or a collector's name is wrong; the message says which.
        StartError: A collector can't be made.
        TypeError: What should be a collector or a check is none.
        ValueError: Two collectors have the same name, or the time is none.
    """
    parts = Parts.of(collectors, checks, check_timeout, environ, log)
    return ASGIMount(
        PerProcess(lambda: web.asgi_app(parts.exporter(), parts.formats(), None, parts.log, parts.checks())), app
    )


def wsgi_app(
    app: WSGIApplication | None = None,
    *,
    collectors: Iterable[str | Collector] | None = None,
    checks: Mapping[str, Check] | None = None,
    check_timeout: float = TIMEOUT,
    environ: Mapping[str, str] | None = None,
    log: Log | logging.Logger | None = None,
) -> WSGIApplication:
    """A WSGI application that answers ``/metrics`` and ``/monitor``.

    As `asgi_app`, except that each coroutine of a check runs in an event loop of its own.
    """
    parts = Parts.of(collectors, checks, check_timeout, environ, log)
    made: PerProcess[WSGIApplication] = PerProcess(
        lambda: web.wsgi_app(parts.exporter(), parts.formats(), parts.log, parts.checks())
    )
    return WSGIMount(made, app)


def add_routes(
    app: "falcon.App[Any, Any]",
    *,
    prefix: str = "",
    collectors: Iterable[str | Collector] | None = None,
    checks: Mapping[str, Check] | None = None,
    check_timeout: float = TIMEOUT,
    environ: Mapping[str, str] | None = None,
    log: Log | logging.Logger | None = None,
) -> None:
    """Adds ``/metrics`` and ``/monitor`` to a Falcon application, be it one for ASGI or for WSGI.

    As `asgi_app` and `wsgi_app`; the application's own middleware and error handlers hold for the two as for its other
    routes.

    Args:
        app: The application.
        prefix: Path before the two: ``/internal``.
        collectors: As for `asgi_app`.
        checks: As for `asgi_app`.
        check_timeout: As for `asgi_app`.
        environ: As for `asgi_app`.
        log: As for `asgi_app`.

    Raises:
        TypeError: That is no Falcon application.
        ValueError: The prefix is no path.
    """
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        msg = f"prefix={prefix!r}: expected a path such as /internal, or none"
        raise ValueError(msg)
    import falcon.asgi

    parts = Parts.of(collectors, checks, check_timeout, environ, log)
    resources: tuple[ASGIResource | WSGIResource, ...]
    if isinstance(app, falcon.asgi.App):
        resources = (
            ASGIResource(PerProcess(lambda: Metrics(parts.exporter(), parts.formats()))),
            ASGIResource(PerProcess(lambda: Monitor(parts.checks()))),
        )
    elif isinstance(app, falcon.App):
        resources = (
            WSGIResource(PerProcess(lambda: MetricsWSGI(parts.exporter(), parts.formats()))),
            WSGIResource(PerProcess(lambda: MonitorWSGI(parts.checks()))),
        )
    else:
        msg = f"expected a falcon.App or a falcon.asgi.App, not {app!r}; others have asgi_app() and wsgi_app()"
        raise TypeError(msg)
    for path, resource in zip((METRICS, MONITOR), resources, strict=True):
        app.add_route(f"{prefix}{path}", resource)
        app.add_route(f"{prefix}{path}/", resource)


def registered(
    port: int,
    *,
    host: str = "",
    monitor: str = "",
    environ: Mapping[str, str] | None = None,
    log: Log | logging.Logger | None = None,
) -> Registration:
    """Keeps your service registered while it runs: a context, with ``start()`` and ``stop()`` for where it's none.

    A thread waits until the service answers ``/monitor`` with 200, registers it, and unregisters it in the end. Where
    to, and as what, is told by variables: ``STTR_CLIENT_BASEURI``, ``STTR_ROSTER_SERVICE_NAME`` and the like. Several
    processes that serve at the same port may each do so: the last one that leaves unregisters it.

    Args:
        port: Where the service listens.
        host: The only address at which it does; empty for all.
        monitor: Path of ``/monitor`` where it's another: ``/internal/monitor``; empty for the one in
            ``STTR_ROSTER_SERVICE_MONITORSPEC``.
        environ: ``STTR_`` variables; None for the process's environment.
        log: As for `asgi_app`.

    Raises:
        ConfigError: A variable is wrong; the message says which.
        ValueError: That is no port, or no path.
    """
    if port not in range(1, HIGHEST_PORT + 1):
        msg = f"port={port!r}: expected the number of the port at which the service listens"
        raise ValueError(msg)
    if monitor and not re.fullmatch("/[!-~]*", monitor):
        msg = f"monitor={monitor!r}: expected a path such as /internal/monitor, percent-encoded where it's not ASCII"
        raise ValueError(msg)
    host = "" if host in ("0.0.0.0", "::") else host
    variables = dict(os.environ if environ is None else environ)
    if monitor:
        variables[f"{PREFIX}_ROSTER_SERVICE_MONITORSPEC"] = f"http://%s:%d{monitor.replace('%', '%%')}"
    config, told = decode(Config, PREFIX, variables), own_log(log)
    service, where_to = config.roster.service, config.client.base_uri
    own_url = service.monitor_url(host or "127.0.0.1", port)
    is_serving = partial(is_ready, own_url)
    roster = config.roster.build(config.registrar(told), where_to, (host, port), is_serving, told, own_url=own_url)
    return Registration(
        roster, Membership(Path(tempfile.gettempdir()), where_to, service, host, port), is_serving, told
    )
