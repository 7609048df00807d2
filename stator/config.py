"""The root Config: each part's own Config under its name, and the choice among implementations."""

from collections.abc import Iterator, Mapping

from attrs import frozen

from stator.client.client import ClientConfig
from stator.collectors.catalog import BUILT_IN, Collectors, CollectorSelection, PluginConfigs
from stator.exporter import MetricsConfig
from stator.exposition.negotiation import Negotiator
from stator.log.logger import Log, LoggerConfig
from stator.plugins.discovery import find
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.file_sd import FileConfig
from stator.roster.registrar import Registrar
from stator.roster.roster import RosterConfig
from stator.server.supervisor import ServerConfig
from stator.settings.declare import iter_settings, section, variables_of
from stator.settings.extend import with_others, with_parts


@frozen
class Config:
    """All that Stator can be told."""

    logger: LoggerConfig = section(LoggerConfig)
    client: ClientConfig = section(ClientConfig)
    consul: ConsulConfig = section(ConsulConfig)
    roster: RosterConfig = section(RosterConfig)
    file: FileConfig = section(FileConfig)
    collectors: Collectors = section(Collectors, env="")
    metrics: MetricsConfig = section(MetricsConfig)
    server: ServerConfig = section(ServerConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What a chosen registrar misses."""
        if self.roster.registrar == "consul" and not self.client.base_uri:
            yield (
                "client.base_uri",
                "a URI such as http://localhost:8500, since STTR_ROSTER_REGISTRAR is consul",
            )
        if self.roster.registrar == "file" and not self.file.path:
            yield "file.path", "the path of a file, since STTR_ROSTER_REGISTRAR is file"

    def registrar(self, log: Log) -> Registrar | None:
        """What registers us, or None where nothing is to."""
        match self.roster.registrar:
            case "file":
                return self.file.build()
            case "none":
                return None
        return self.consul.build(self.client.build(log), self.consul.heartbeat(log)) if self.client.base_uri else None

    def formats(self) -> Negotiator:
        """What scrapers can be answered in."""
        return Negotiator(self.metrics.timestamps)


def with_plugin_settings(prefix: str, variables: Mapping[str, str]) -> type[Config]:
    """The root Config class for an environment: with the settings of the plugins that it chooses.

    They must be loaded before the rest is read. What is wrong with them is kept, and told with all other problems.
    """
    if not any(variables.get(each.name) for each in iter_settings(CollectorSelection, prefix)):
        return Config
    from stator.settings.environment import ConfigError, decode  # slow to import

    try:
        chosen = decode(CollectorSelection, prefix, variables)
    except ConfigError:
        return Config  # told when the rest is read
    own = [name for name in chosen.enabled if name not in BUILT_IN]
    if not own:
        return Config
    found = find(own, chosen.plugins_path, prefix, variables_of(Config, prefix))
    parts = {each.name: (each.name.upper(), each.config) for each in found.plugins.values() if each.config}
    collectors = with_others(Collectors, {"plugins": with_parts(PluginConfigs, parts)}, found=found)
    return with_others(Config, {"collectors": collectors})
