"""What a Stator consists of: collectors, health checks, and the answers to /metrics and /monitor."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any
from wsgiref.types import WSGIApplication

from stator.collectors.process import FAMILIES as PROCESS_FAMILIES
from stator.collectors.prometheus_client import PrometheusClient
from stator.config import Config
from stator.control.embedded import EmbeddedControl
from stator.embedding.keywords import is_registry
from stator.embedding.mounting import LIVE, METRICS, MONITOR, READY, PerProcess, PerProcessResource
from stator.embedding.settings import Settings
from stator.embedding.state import KeeperState, registration_facts
from stator.exporter import Exporter
from stator.instrumentation.exchange import Observer
from stator.instrumentation.requests import GAUGES, RequestMetrics
from stator.instrumentation.sharing import process_memory
from stator.instrumentation.store import LocalStore, SharedStore
from stator.log.logger import new_id
from stator.points import CollectorContext, LabelPairs
from stator.processes.discovery import run_key
from stator.processes.siblings import Siblings
from stator.version import __version__, build_labels
from stator.web import app as web
from stator.web.access_log import App
from stator.web.checks import CheckMetrics, Checks
from stator.web.metrics import Metrics
from stator.web.monitor import Monitor
from stator.web.status.collections import LastCollections
from stator.web.status.facts import About, Status
from stator.web.status.place import EMBEDDED
from stator.web.status.resources import page_resources

# The collector of the wrapped applications' requests.
REQUESTS = "http_server"


class Parts:
    """What answers /metrics and /monitor, in each process that is forked from this one.

    `address` returns host and port with which this process has registered the service, if it has.
    """

    def __init__(self, settings: Settings, address: Callable[[], tuple[str, int] | None] = lambda: None) -> None:
        config, log, service = settings.config, settings.log, settings.config.roster.service.name
        self._config, self._log = config, log
        # Before this process is one of the siblings: what looks for all of them takes it for started then.
        self._control = EmbeddedControl(log, settings.logger, _public(config))
        processes = Siblings(service, lambda error: log.warning("metrics are of this process alone", reason=str(error)))
        run_id = new_id(Random(processes.run).getrandbits)  # noqa: S311 # not secret; the same in all workers
        collectors = config.collectors.build(CollectorContext(service, run_id, processes, log))
        without = PROCESS_FAMILIES if "process" in collectors else ()
        for name, own in settings.collectors.items():
            collectors[name] = PrometheusClient(own, without) if is_registry(own) else own
        self._metrics = metrics = RequestMetrics(
            LocalStore(),
            config.metrics.buckets,
            config.metrics.max_series,
            exclude=settings.exclude,
            has_sizes=settings.body_sizes,
            target=_target(config, run_id),
        )
        access, self._proxies = config.server.access, config.server.access.proxies()
        self._observer, self._shares = Observer(metrics, settings.access, log, self._proxies), False
        collectors.setdefault(REQUESTS, metrics)
        keeper = KeeperState(service, log)
        if config.registers:
            collectors.setdefault("roster", keeper)
        mask, timeout = settings.mask, settings.check_timeout
        self._checks = PerProcess(lambda: Checks(settings.checks, log, timeout, keeper.is_draining, mask))
        if settings.checks:
            collectors.setdefault("checks", CheckMetrics(self._checks))
        self._guard = PerProcess(
            lambda: access.build(log, keeper.probe_key, config.server.open_web_config(has_tls=False))
        )
        collections = LastCollections(processes, collectors)
        self._exporter = PerProcess(
            lambda: Exporter(collectors, config.metrics, build_labels(), log, collected=collections.report)
        )
        about = About(service, run_id, dict(config.roster.service.meta).get("version", ""))
        registration = partial(registration_facts, config, keeper, address)
        self._status = PerProcess(
            lambda: Status(about, self._checks(), collections, processes, registration, time.time)
        )
        self._has_page = settings.has_page

    def observer(self) -> Observer:
        """Returns what observes the requests of all applications that are wrapped, and counts those of all workers."""
        # Once: the metrics of another application that is wrapped later are the same.
        if not self._shares and (memory := process_memory()):
            self._shares = True
            self._metrics.move(SharedStore(memory, self._config.roster.service.name, GAUGES))
        return self._observer

    def _page_resource(self, path: str) -> Any:
        return page_resources(self._status(), EMBEDDED, web.LINKS)[path]

    def _page_paths(self) -> Iterable[str]:
        return EMBEDDED.paths if self._has_page else ()

    def asgi_app(self) -> App:
        """Returns an ASGI application of this process."""
        status = self._status if self._has_page else None
        app = web.asgi_app(self._exporter(), self._config.formats(), None, self._log, self._checks(), status)
        if guard := self._guard():
            from stator.web.guarded import guarded_asgi  # most applications have none

            app = guarded_asgi(app, guard, self._proxies)
        return app

    def wsgi_app(self) -> WSGIApplication:
        """Returns a WSGI application of this process."""
        status = self._status if self._has_page else None
        app = web.wsgi_app(self._exporter(), self._config.formats(), self._log, self._checks(), status)
        if guard := self._guard():
            from stator.web.guarded import guarded_wsgi

            app = guarded_wsgi(app, guard, self._proxies)
        return app

    def resources(self) -> dict[str, PerProcessResource]:
        """Returns the Falcon resources by path."""
        builds: dict[str, Callable[[], object]] = {
            METRICS: lambda: Metrics(self._exporter(), self._config.formats()),
            **dict.fromkeys((MONITOR, READY), lambda: Monitor(self._checks())),
            LIVE: lambda: Monitor(Checks({}, self._log)),
            **{path: partial(self._page_resource, path) for path in self._page_paths()},
        }
        return {path: PerProcessResource(self._guarded(path, build)) for path, build in builds.items()}

    def _guarded(self, path: str, build: Callable[[], object]) -> Callable[[], object]:
        def build_guarded() -> object:
            if guard := self._guard():
                from stator.web.guarded import GuardedResource

                return GuardedResource(build(), path, guard, self._proxies)
            return build()

        return build_guarded


def _public(config: Config) -> dict[str, object]:
    """Returns what `ctl` shows of the service, whether it is registered or not."""
    service = config.roster.service
    version, run_id = dict(service.meta).get("version", ""), ""
    with suppress(OSError):
        run_id = new_id(Random(run_key()).getrandbits)  # noqa: S311 # not secret; the same in all workers
    about = {"service": service.name, "version": version, "stator": __version__, "run_id": run_id}
    return {**about, "registration": "not registering"}


def _target(config: Config, run_id: str) -> LabelPairs:
    """Returns the labels of target_info, by OpenTelemetry's names; all workers have the same."""
    service = config.roster.service
    version, instance = dict(service.meta).get("version", ""), service.id or run_id
    labels = (("service_name", service.name), ("service_version", version), ("service_instance_id", instance))
    return tuple((name, value) for name, value in labels if value)
