"""What /metrics and /monitor are made of, from the arguments of a call."""

import logging
import os
from collections.abc import Iterable, Mapping
from random import Random

from attrs import frozen

from stator.collectors.catalog import CollectorContext
from stator.config import Config, with_plugin_settings
from stator.exporter import Exporter
from stator.log import stdlib
from stator.log.logger import Log, new_id
from stator.points import Collector
from stator.processes.siblings import Siblings
from stator.settings.environment import decode
from stator.version import build_labels
from stator.web.checks import Check, Checks
from stator.web.metrics import Negotiator

PREFIX = "STTR"
# What runs where neither a call nor the environment says what.
DEFAULT = "runtime"


@frozen
class Parts:
    """The parts; those that have threads or locks are made anew for each process."""

    config: Config
    collectors: Mapping[str, Collector]
    named_checks: Mapping[str, Check]
    check_timeout: float
    log: Log

    @classmethod
    def of(
        cls,
        collectors: Iterable[str | Collector] | None,
        checks: Mapping[str, Check] | None,
        check_timeout: float,
        environ: Mapping[str, str] | None,
        log: Log | logging.Logger | None,
    ) -> "Parts":
        """All parts from the arguments of a call."""
        names, own = _sorted_out(collectors)
        variables = {f"{PREFIX}_COLLECTORS": DEFAULT, **(os.environ if environ is None else environ)}
        if names is not None:
            variables[f"{PREFIX}_COLLECTORS"] = ",".join(names)
        config, told = decode(with_plugin_settings(PREFIX, variables), PREFIX, variables), own_log(log)
        service = config.roster.service.name
        processes = Siblings(service, lambda why: told.info("metrics are of this process alone", reason=str(why)))
        run_id = new_id(Random(processes.run).randbytes)  # noqa: S311 # no secret; the same in all workers
        built = config.collectors.build(CollectorContext(service, run_id, processes, told))
        if taken := [name for name in own if name in built]:
            msg = f"two collectors are called {taken[0]!r}: give one of them another attribute 'name'"
            raise ValueError(msg)
        return cls(config, built | own, _fit(checks or {}, check_timeout), check_timeout, told)

    def exporter(self) -> Exporter:
        """What answers /metrics."""
        return Exporter(self.collectors, self.config.metrics, build_labels(), self.log)

    def formats(self) -> Negotiator:
        """What scrapers can be answered in."""
        return self.config.formats()

    def checks(self) -> Checks:
        """What answers /monitor."""
        return Checks(self.named_checks, self.log, self.check_timeout)


def _sorted_out(collectors: Iterable[str | Collector] | None) -> tuple[list[str] | None, dict[str, Collector]]:
    """The names among collectors, and the others by name."""
    if collectors is None:
        return None, {}
    if isinstance(collectors, str):
        msg = f"expected several collectors, as in collectors=[{collectors!r}], not a text"
        raise TypeError(msg)
    names: list[str] = []
    own: dict[str, Collector] = {}
    for each in collectors:
        if isinstance(each, str):
            names.append(each)
            continue
        if isinstance(each, type):
            msg = f"no collector: {each!r} is a class; make one of it, as in collectors=[{each.__name__}()]"
            raise TypeError(msg)
        if not callable(getattr(each, "collect", None)):
            msg = f"no collector: {each!r} has no method collect(now)"
            raise TypeError(msg)
        name = getattr(each, "name", type(each).__name__.lower())
        if not _is_text(name):
            msg = f"{each!r} can't be called {name!r}: expected a text in its attribute 'name'"
            raise TypeError(msg)
        if name in own:
            msg = f"two collectors are called {name!r}: give one of them another attribute 'name'"
            raise ValueError(msg)
        own[name] = each
    return names, own


def _fit(checks: Mapping[str, Check], timeout: float) -> Mapping[str, Check]:
    if not isinstance(checks, Mapping):
        msg = f"checks={checks!r}: expected functions by name, as in checks={{'db': ping_db}}"
        raise TypeError(msg)
    for name, check in checks.items():
        if not _is_text(name):
            msg = f"a check can't be called {name!r}: expected a text"
            raise TypeError(msg)
        if not callable(check):
            msg = f"check {name!r}: expected a function, not {check!r}"
            raise TypeError(msg)
    if not timeout > 0:
        msg = f"check_timeout={timeout!r}: expected seconds, more than 0"
        raise ValueError(msg)
    return checks


def _is_text(name: object) -> bool:
    """Whether this is text that can be written as UTF-8."""
    return isinstance(name, str) and not any("\ud800" <= letter <= "\udfff" for letter in name)


def own_log(log: Log | logging.Logger | None) -> Log:
    """The log that is given, as a log of ours."""
    if log is None or isinstance(log, logging.Logger):
        return stdlib.new(log or logging.getLogger(stdlib.LOGGER))
    return log
