"""Every setting of the program.

A Config has the settings of one part, and a method ``build`` that returns the part. What is slow to import (psutil,
falcon, urllib3, uvicorn, cattrs) is imported inside it, or inside the function that first needs it: neither ``-h`` nor
the import of a collector may wait for that.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any

from attrs import evolve, field, frozen

from stator.child.config import ChildConfig
from stator.client.config import ClientConfig
from stator.client.headers import header_pairs
from stator.collectors.catalog import BUILT_IN, Collectors
from stator.exporter import MetricsConfig
from stator.exposition.negotiation import Negotiator
from stator.log.logger import Log, LoggerConfig
from stator.plugins.discovery import UNKNOWN, Plugins, load_plugins
from stator.roster.consul.limits import service_problems
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.file_sd import FileConfig
from stator.roster.registrar import Registrar
from stator.roster.roster import RosterConfig
from stator.server.config import ServerConfig
from stator.settings.declare import FILE_SUFFIX, ConfigError, Secret, Setting, iter_settings, section, variables_of
from stator.settings.masking import KnownSecrets, mask_texts, secrets_of
from stator.settings.types import setting_type
from stator.web.health import TARGETS, Check, MonitorConfig, build_check, is_target

# What STTR_ROSTER_REGISTRAR can name beside plugins.
REGISTRARS = ("auto", "consul", "file", "none")


@frozen(eq=False, repr=False)
class Config:
    """The root Config, with the settings of everything but plugins."""

    logger: LoggerConfig = section(LoggerConfig)
    client: ClientConfig = section(ClientConfig)
    consul: ConsulConfig = section(ConsulConfig)
    roster: RosterConfig = section(RosterConfig)
    file: FileConfig = section(FileConfig)
    collectors: Collectors = section(Collectors, env="")
    metrics: MetricsConfig = section(MetricsConfig)
    server: ServerConfig = section(ServerConfig)
    monitor: MonitorConfig = section(MonitorConfig)
    child: ChildConfig = section(ChildConfig)
    registrars: Plugins = field(factory=Plugins)  # the chosen one, if it is a plugin; no variable gives it

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields what the chosen registrar lacks or would refuse."""
        name = self.roster.registrar or "auto"
        if name not in (*REGISTRARS, *self.registrars.found):
            failure = "".join(self.registrars.failures) or f"{UNKNOWN} {name!r}"
            yield "roster.registrar", f"one of auto, consul, file, none, or an installed registrar; {failure}"
        if name == "consul" and not self.client.base_uri:
            yield "client.base_uri", "a URI such as http://localhost:8500, since STTR_ROSTER_REGISTRAR is consul"
        if name == "file" and not self.file.path:
            yield "file.path", "the path of a file, since STTR_ROSTER_REGISTRAR is file"
        if self.child.health and not is_target(self.child.health):
            yield "child.health", f"one of {TARGETS}"
        if self.client.base_uri and name in ("auto", "consul"):
            yield from ((f"roster.service.{setting}", text) for setting, text in service_problems(self.roster.service))

    @property
    def registrar_name(self) -> str:
        """The name of the chosen registrar; none registers nowhere."""
        name = self.roster.registrar or "auto"
        return name if name != "auto" else "consul" if self.client.base_uri else "none"

    @property
    def registers(self) -> bool:
        """Whether there is a registrar."""
        return self.registrar_name != "none"

    def known_secrets(self) -> KnownSecrets:
        """Returns what masks all that is secret in these settings, and in those of plugins."""
        configs = (self, *self.collectors.plugins.configs().values(), *self.registrars.configs().values())
        pairs = (*header_pairs(self.client.headers), *header_pairs(self.consul.check_headers))
        named = (Secret(value) for name, value in pairs if name.lower() in self.client.secret_headers)
        return KnownSecrets([*named, *chain.from_iterable(map(secrets_of, configs))], user=self.client.user)

    def redacted(self) -> dict[str, Any]:
        """Returns all settings, with those of plugins, as plain data without secrets."""
        from stator.settings.dump import dump

        data = dump(self)
        data["collectors"]["plugins"] = {name: dump(each) for name, each in self.collectors.plugins.configs().items()}
        if configs := self.registrars.configs():
            data["roster"]["plugins"] = {name: dump(each) for name, each in configs.items()}
        masked: dict[str, Any] = mask_texts(data, self.known_secrets().mask)
        return masked

    def secrets(self, prefix: str = "STTR") -> dict[str, Secret]:
        """Returns the secrets by the variables that name their files."""
        secret = (each for each in iter_settings(Config, prefix) if each.secret)
        found: dict[str, Secret] = {
            f"{each.name}{FILE_SUFFIX}": attrgetter(".".join(each.path))(self) for each in secret
        }
        return found

    def registrar(self, log: Log, probe_headers: Mapping[str, str] | None = None) -> Registrar | None:
        """Returns the chosen registrar, which probes our own health with some headers; None registers nowhere."""
        if plugin := self.registrars.found.get(self.roster.registrar):
            registrar: Registrar = plugin.build()
            return registrar
        match self.roster.registrar:
            case "file":
                return self.file.build()
            case "none":
                return None
        if not self.client.base_uri:
            return None
        mask = self.known_secrets().mask
        return self.consul.build(self.client.build(log, mask), self.consul.heartbeat(log, mask, probe_headers))

    def child_check(self) -> Check | None:
        """Returns what raises while the wrapped program is not healthy; None if nothing is known of its health."""
        target = self.child.health or (
            f"tcp://127.0.0.1:{self.roster.service.port}" if self.roster.service.port else ""
        )
        return build_check(target, self.monitor.check_timeout.seconds, self.public_environ) if target else None

    def public_environ(self, prefix: str = "STTR") -> dict[str, str]:
        """Returns this process's environment for other programs: without variables that are, or may hold, secrets."""
        plugins = (*self.collectors.plugins.settings(), *self.registrars.settings())
        secret = variables_of(each for each in (*iter_settings(Config, prefix), *plugins) if each.hidden)
        return {name: value for name, value in os.environ.items() if name not in secret}

    def formats(self) -> Negotiator:
        """Returns what chooses the format of each answer to a scrape."""
        return Negotiator(self.metrics.timestamps)


@frozen(eq=False, repr=False)
class Environment:
    """The variables of a start, and the settings that read them: those of `Config`, and of the chosen plugins."""

    prefix: str
    variables: Mapping[str, str]
    collectors: Plugins
    registrars: Plugins

    @classmethod
    def of(cls, prefix: str, variables: Mapping[str, str]) -> "Environment":
        """Loads the plugins that variables choose; what can't be loaded is a problem when the Config is decoded."""
        taken = variables_of(iter_settings(Config, prefix))
        collectors, registrars = _chosen_plugins(prefix, variables)
        folder = variables.get(f"{prefix}_PLUGINS_PATH", "")
        own = load_plugins("collector", collectors, folder, prefix, taken)
        taken |= variables_of(own.settings())
        return cls(prefix, variables, own, load_plugins("registrar", registrars, "", prefix, taken))

    @classmethod
    def built_in(cls, prefix: str, variables: Mapping[str, str]) -> "Environment":
        """Raises LookupError if variables choose plugins, and loads none."""
        if any(_chosen_plugins(prefix, variables)):
            msg = "there are plugins"
            raise LookupError(msg)
        return cls(prefix, variables, Plugins(), Plugins())

    def settings(self) -> list[Setting]:
        """Returns all settings: those of plugins stand after those of the built-in collectors."""
        own = list(iter_settings(Config, self.prefix))
        at = max(nth for nth, each in enumerate(own) if each.path[0] == "collectors") + 1
        return [*own[:at], *self.collectors.settings(), *self.registrars.settings(), *own[at:]]

    def decode(self, given: Mapping[str, Any] | None = None) -> Config:
        """Builds all Configs; raises ConfigError with all that can't be used. Values given win over variables."""
        from stator.settings.environment import Reader

        reader = Reader(self.variables, given or {})
        collectors, registrars = self.collectors.decoded(reader.read), self.registrars.decoded(reader.read)
        config = reader.read(Config, self.prefix)
        config = evolve(config, collectors=evolve(config.collectors, plugins=collectors), registrars=registrars)
        reader.check(config, self.prefix)
        for plugin in (*collectors.found.values(), *registrars.found.values()):
            reader.check(plugin.config, plugin.prefix)
        reader.finish()
        return config

    def check_command(self, config: Config) -> None:
        """Raises ConfigError if the settings can't be those of a wrapped program."""
        if config.registers and not config.roster.service.port:
            name = f"{self.prefix}_ROSTER_SERVICE_PORT"
            raise ConfigError([f"{name}: expected the port of the program behind --, which is to be registered"])

    def dump(self, config: Config) -> dict[str, Any]:
        """Returns the root Config, and those of plugins, as plain data without secrets."""
        return config.redacted()


def _chosen_plugins(prefix: str, variables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns the names of collectors, and of the registrar, that are not built in."""
    chosen = setting_type(tuple[str, ...]).parse(variables.get(f"{prefix}_COLLECTORS", ""))
    registrar = variables.get(f"{prefix}_ROSTER_REGISTRAR") or "auto"
    return [name for name in chosen if name not in BUILT_IN], [registrar] if registrar not in REGISTRARS else []
