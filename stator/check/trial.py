"""Builds the collectors and the registrar, and collects once."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

from attrs import evolve

from stator.concurrency.single_flight import CollectionTimeout
from stator.config import Config
from stator.exporter import Exporter
from stator.log.logger import Log
from stator.log.writer import Sink
from stator.plugins.loading import describe
from stator.points import Collector, CollectorContext, PointError
from stator.processes.service import ServiceProcesses
from stator.roster.registrar import Registrar
from stator.settings.command_line import Trial
from stator.settings.declare import StartError

METHODS = [name for name in vars(Registrar) if not name.startswith("_")]


def try_out(config: Config) -> Trial:
    """Returns what fails: of the user's own it's a problem; of a built-in collector, which needs its machine, not."""
    with Path(os.devnull).open("wb") as nowhere:
        log = config.logger.build(Sink(nowhere.fileno()), terminal=False)
        problems = [*_registrar_problems(config, log)]
        collectors: dict[str, Collector] = {}
        context = CollectorContext("stator", "", ServiceProcesses(config.server.workers), log)
        for name in config.collectors.enabled:
            try:
                collectors |= evolve(config.collectors, enabled=(name,)).build(context)
            except StartError as error:
                problems.append(str(error))
        errors = Exporter(collectors, config.metrics, (), log).try_out()
    lines = {name: f"the collector {name} fails: {_line(error)}" for name, error in errors.items()}
    own = config.collectors.plugins.found
    problems += [line for name, line in lines.items() if name in own]
    warnings = [f"{line}; it may work elsewhere" for name, line in lines.items() if name not in own]
    tls = config.server.tls_options()
    warnings += tls.warnings() if tls else ()
    warnings += config.server.warnings()
    mask = config.known_secrets().mask
    return Trial([*map(mask, problems)], [*map(mask, warnings)])


def _line(error: BaseException) -> str:
    is_plain = isinstance(error, PointError | CollectionTimeout)
    return " ".join(str(error).split()) if is_plain else describe(error)


def _registrar_problems(config: Config, log: Log) -> Iterator[str]:
    """Yields why the chosen registrar, if it is a plugin, can't be used."""
    for name in config.registrars.found:
        try:
            registrar = config.registrar(log)
        except StartError as error:
            yield str(error)
            continue
        for method in METHODS:
            if inspect.iscoroutinefunction(getattr(registrar, method)):
                yield f"the registrar {name} can't be used: its {method}() is async"
