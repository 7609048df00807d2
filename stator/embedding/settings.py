"""What a Stator is configured by: its keywords, and the variables that they leave open."""

import logging
import os
import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from attrs import evolve, frozen

from stator.collectors.catalog import BUILT_IN
from stator.config import Config, Environment
from stator.embedding.keywords import Keywords, check_keywords, split_collectors
from stator.instrumentation.access import LOGGER as ACCESS_LOGGER
from stator.instrumentation.access import AccessLog, Mode
from stator.log.logger import Log, masked_logger
from stator.log.stdlib import LOGGER, record_writer, stdlib_logger
from stator.settings.declare import ConfigError
from stator.settings.environment import quoted_values, unknown_variables
from stator.settings.masking import Mask
from stator.settings.paths import PathSet
from stator.web.health import Check

PREFIX = "STTR"
COLLECTORS, WEB_CONFIG = f"{PREFIX}_COLLECTORS", f"{PREFIX}_SERVER_WEBCONFIG"
# Collectors that run where neither the keyword nor the variable names any.
DEFAULT = "runtime"
# TLS is the affair of the application's server: these may name files that the application can't read.
OTHERS = [f"{PREFIX}_SERVER_{name}" for name in ("CERTFILE", "KEYFILE", "CLIENTCAFILE", "CLIENTNAMES", "TLSMINVERSION")]
# Keywords, and the variables over which they win.
VARIABLES = {
    "service": f"{PREFIX}_ROSTER_SERVICE_NAME",
    "tags": f"{PREFIX}_ROSTER_SERVICE_TAGS",
    "meta": f"{PREFIX}_ROSTER_SERVICE_META",
    "consul": f"{PREFIX}_CLIENT_BASEURI",
    "collectors": COLLECTORS,
    "access_log": f"{PREFIX}_LOGGER_ACCESS",
}


@frozen
class Settings:
    """What keywords and variables say; `collectors` are those that were given as objects, registries among them."""

    config: Config
    collectors: Mapping[str, Any]
    checks: Mapping[str, Check]
    check_timeout: float
    has_page: bool
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
        for name in OTHERS:
            variables.pop(name, None)
        web_config = variables.pop(WEB_CONFIG, "")
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
            config = with_web_config(environment.decode(given), web_config)
        except ConfigError as error:
            problems += [_by_keyword(problem, given) for problem in error.problems]
        else:
            twice = [name for name in own if name in config.collectors.enabled]
            problems += [f"collectors: expected different names, but two are called {name!r}" for name in twice]
        if problems:
            raise ConfigError(problems)
        for warning in (*config.server.warnings(), *_unused_tls(config)):
            log.warning(warning)
        if version := good.get("version"):
            meta = {**dict(config.roster.service.meta), "version": version}
            config = with_service(config, meta=tuple(meta.items()))
        mask = config.known_secrets().mask
        return cls(
            config,
            own,
            {**config.monitor.build(config.public_environ), **good.get("checks", {})},
            good.get("check_timeout", config.monitor.check_timeout.seconds),
            good.get("page", False),
            good.get("exclude", ()),
            good.get("body_sizes", False),
            masked_logger(log, mask),
            given_log if isinstance(given_log, logging.Logger) else None,
            _access_log(config, given_log, mask),
            mask,
        )


def with_service(config: Config, **changes: Any) -> Config:
    """Returns a Config in which settings of the service are changed."""
    return evolve(config, roster=evolve(config.roster, service=evolve(config.roster.service, **changes)))


def with_web_config(config: Config, path: str) -> Config:
    """Returns a Config with a web configuration file; raises ConfigError where that can't be used."""
    config = evolve(config, server=evolve(config.server, web_config=path))
    if problem := config.server.web_config_problem(has_tls=False):
        raise ConfigError([f"{WEB_CONFIG}={path!r}: expected {problem}"])
    return config


def _unused_tls(config: Config) -> Iterator[str]:
    """Yields that a web configuration file says how to serve TLS, if it does."""
    if path := config.server.web_config:
        from stator.server.web_config import has_tls

        if has_tls(path):
            yield f"tls_server_config in {path} is not used: TLS is the affair of the application's server"


def _access_log(config: Config, log: Any, mask: Mask) -> AccessLog | None:
    """Returns the log of the application's requests, beside a logger of the standard library or in another."""
    if config.logger.access == "off":
        return None
    mode: Mode = "full" if config.logger.access == "full" else "line"
    quiet = PathSet(config.logger.quiet_paths)
    build = partial(AccessLog, mode=mode, secret_headers=config.client.secret_headers, quiet_paths=quiet, mask=mask)
    if isinstance(log, logging.Logger):
        logger = log.getChild("access")
        return build(record_writer(logger), is_enabled=partial(logger.isEnabledFor, logging.INFO))
    own = log.bind(logger=ACCESS_LOGGER)
    return build(lambda level, message, fields: own.log(level, message, **fields), is_enabled=lambda: True)


def _plain(value: str | Iterable[Any]) -> Any:
    """Returns a keyword's value as a setting takes it: a text, a list, or a list of pairs."""
    return value if isinstance(value, str) else list(value.items() if isinstance(value, Mapping) else value)


def _by_keyword(problem: str, given: Container[str]) -> str:
    """Returns a problem with the keyword's name in place of the variable's, if the keyword gave the value."""
    keywords = {variable: keyword for keyword, variable in VARIABLES.items() if variable in given}
    return re.sub(r"^\w+", lambda variable: keywords.get(variable[0], variable[0]), problem)
