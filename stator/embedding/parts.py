"""What a Stator consists of: the Config of its keywords and variables, and the answers to /metrics and /monitor."""

import logging
import os
import re
from collections.abc import Collection, Container, Iterable, Mapping
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any
from wsgiref.types import WSGIApplication

from attrs import evolve, frozen

from stator.collectors.catalog import BUILT_IN
from stator.collectors.process import FAMILIES as PROCESS_FAMILIES
from stator.collectors.prometheus_client import PrometheusClient
from stator.config import Config, Environment
from stator.control.embedded import EmbeddedControl
from stator.embedding.keywords import Keywords, check_keywords, is_registry, split_collectors
from stator.embedding.mounting import LIVE, METRICS, MONITOR, READY, PerProcess, PerProcessResource
from stator.embedding.state import KeeperState
from stator.exporter import Exporter
from stator.instrumentation.access import LOGGER as ACCESS_LOGGER
from stator.instrumentation.access import AccessLog, Mode
from stator.instrumentation.exchange import Observer
from stator.instrumentation.requests import GAUGES, RequestMetrics
from stator.instrumentation.sharing import process_memory
from stator.instrumentation.store import LocalStore, SharedStore
from stator.log.logger import Log, masked_logger, new_id
from stator.log.quiet import QuietPaths
from stator.log.stdlib import LOGGER, record_writer, stdlib_logger
from stator.points import CollectorContext, LabelPairs
from stator.processes.discovery import run_key
from stator.processes.siblings import Siblings
from stator.settings.declare import ConfigError
from stator.settings.environment import quoted_values, unknown_variables
from stator.settings.masking import Mask
from stator.version import __version__, build_labels
from stator.web import app as web
from stator.web.access_log import App
from stator.web.checks import CheckMetrics, Checks
from stator.web.health import Check
from stator.web.metrics import Metrics
from stator.web.monitor import Monitor

PREFIX = "STTR"
COLLECTORS = f"{PREFIX}_COLLECTORS"
# Collectors that run where neither the keyword nor the variable names any.
DEFAULT = "runtime"
# Keywords, and the variables over which they win.
VARIABLES = {
    "service": f"{PREFIX}_ROSTER_SERVICE_NAME",
    "tags": f"{PREFIX}_ROSTER_SERVICE_TAGS",
    "meta": f"{PREFIX}_ROSTER_SERVICE_META",
    "consul": f"{PREFIX}_CLIENT_BASEURI",
    "collectors": COLLECTORS,
    "access_log": f"{PREFIX}_LOGGER_ACCESS",
}
# The collector of the wrapped applications' requests.
REQUESTS = "http_server"


@frozen
class Settings:
    """What keywords and variables say; `collectors` are those that were given as objects, registries among them."""

    config: Config
    collectors: Mapping[str, Any]
    checks: Mapping[str, Check]
    check_timeout: float
    exclude: Collection[str]
    body_sizes: bool
    log: Log
    logger: logging.Logger | None  # to which the log goes, if it is one of the standard library
    access: AccessLog | None
    mask: Mask

    @classmethod
    def read(cls, keywords: Keywords) -> "Settings":
        """Checks keywords, reads the variables that they leave open, and logs those that nothing reads."""
        good, problems = check_keywords(keywords)
        environ, given_log = good.get("environ", os.environ), good.get("log", logging.getLogger(LOGGER))
        log = stdlib_logger(given_log) if isinstance(given_log, logging.Logger) else given_log
        names, own, wrong = split_collectors(good.get("collectors", ()))
        problems += wrong
        given = {variable: _plain(good[name]) for name, variable in VARIABLES.items() if name in good}
        variables = {COLLECTORS: DEFAULT, **environ}
        if "collectors" in good:
            given[COLLECTORS], variables[COLLECTORS] = names, ",".join(names)
        environment = Environment.of(PREFIX, variables)
        named = {name.strip() for name in environ.get(COLLECTORS, "").split(",")} - {""}
        # Where collectors that the variable names are left out here, other variables may be theirs.
        if "collectors" not in good or named <= {*names, *BUILT_IN}:
            for warning in unknown_variables(environment.settings(), PREFIX, environ):
                log.warning(warning)
        for warning in quoted_values(environment.settings(), environ):
            log.warning(warning)
        try:
            config = environment.decode(given)
        except ConfigError as error:
            problems += [_by_keyword(problem, given) for problem in error.problems]
        else:
            twice = [name for name in own if name in config.collectors.enabled]
            problems += [f"collectors: expected different names, but two are called {name!r}" for name in twice]
        if problems:
            raise ConfigError(problems)
        if version := good.get("version"):
            meta = {**dict(config.roster.service.meta), "version": version}
            config = with_service(config, meta=tuple(meta.items()))
        mask = config.known_secrets().mask
        return cls(
            config,
            own,
            {**config.monitor.build(config.public_environ), **good.get("checks", {})},
            good.get("check_timeout", config.monitor.check_timeout.seconds),
            good.get("exclude", ()),
            good.get("body_sizes", False),
            masked_logger(log, mask),
            given_log if isinstance(given_log, logging.Logger) else None,
            _access_log(config, given_log, mask),
            mask,
        )


class Parts:
    """What answers /metrics and /monitor, in each process that is forked from this one."""

    def __init__(self, settings: Settings) -> None:
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
        self._observer = Observer(metrics, settings.access, log)
        collectors.setdefault(REQUESTS, metrics)
        keeper = KeeperState(service, log)
        if config.registers:
            collectors.setdefault("roster", keeper)
        mask, timeout = settings.mask, settings.check_timeout
        self._checks = PerProcess(lambda: Checks(settings.checks, log, timeout, keeper.is_draining, mask))
        if settings.checks:
            collectors.setdefault("checks", CheckMetrics(self._checks))
        self._exporter = PerProcess(lambda: Exporter(collectors, config.metrics, build_labels(), log))

    def observer(self) -> Observer:
        """Returns what observes the requests of an application that is wrapped, and counts those of all workers."""
        if memory := process_memory():
            self._metrics.move(SharedStore(memory, self._config.roster.service.name, GAUGES))
        return self._observer

    def asgi_app(self) -> App:
        """Returns an ASGI application of this process."""
        return web.asgi_app(self._exporter(), self._config.formats(), None, self._log, self._checks())

    def wsgi_app(self) -> WSGIApplication:
        """Returns a WSGI application of this process."""
        return web.wsgi_app(self._exporter(), self._config.formats(), self._log, self._checks())

    def resources(self) -> dict[str, PerProcessResource]:
        """Returns the Falcon resources by path."""
        return {
            METRICS: PerProcessResource(lambda: Metrics(self._exporter(), self._config.formats())),
            **dict.fromkeys((MONITOR, READY), PerProcessResource(lambda: Monitor(self._checks()))),
            LIVE: PerProcessResource(lambda: Monitor(Checks({}, self._log))),
        }


def with_service(config: Config, **changes: Any) -> Config:
    """Returns a Config in which settings of the service are changed."""
    return evolve(config, roster=evolve(config.roster, service=evolve(config.roster.service, **changes)))


def _public(config: Config) -> dict[str, object]:
    """Returns what `ctl` shows of the service, whether it is registered or not."""
    service = config.roster.service
    version, run_id = dict(service.meta).get("version", ""), ""
    with suppress(OSError):
        run_id = new_id(Random(run_key()).getrandbits)  # noqa: S311 # not secret; the same in all workers
    about = {"service": service.name, "version": version, "stator": __version__, "run_id": run_id}
    return {**about, "registration": "not registering"}


def _access_log(config: Config, log: Any, mask: Mask) -> AccessLog | None:
    """Returns the log of the application's requests, beside a logger of the standard library or in another."""
    if config.logger.access == "off":
        return None
    mode: Mode = "full" if config.logger.access == "full" else "line"
    quiet = QuietPaths(config.logger.quiet_paths)
    build = partial(AccessLog, mode=mode, secret_headers=config.client.secret_headers, quiet_paths=quiet, mask=mask)
    if isinstance(log, logging.Logger):
        logger = log.getChild("access")
        return build(record_writer(logger), is_enabled=partial(logger.isEnabledFor, logging.INFO))
    own = log.bind(logger=ACCESS_LOGGER)
    return build(lambda level, message, fields: own.log(level, message, **fields), is_enabled=lambda: True)


def _target(config: Config, run_id: str) -> LabelPairs:
    """Returns the labels of target_info, by OpenTelemetry's names; all workers have the same."""
    service = config.roster.service
    version, instance = dict(service.meta).get("version", ""), service.id or run_id
    labels = (("service_name", service.name), ("service_version", version), ("service_instance_id", instance))
    return tuple((name, value) for name, value in labels if value)


def _plain(value: str | Iterable[Any]) -> Any:
    """Returns a keyword's value as a setting takes it: a text, a list, or a list of pairs."""
    return value if isinstance(value, str) else list(value.items() if isinstance(value, Mapping) else value)


def _by_keyword(problem: str, given: Container[str]) -> str:
    """Returns a problem with the keyword's name in place of the variable's, if the keyword gave the value."""
    keywords = {variable: keyword for keyword, variable in VARIABLES.items() if variable in given}
    return re.sub(r"^\w+", lambda variable: keywords.get(variable[0], variable[0]), problem)
