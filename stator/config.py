"""The root Config: each part's own Config under its name, and the choice among implementations."""

from collections.abc import Iterator, Mapping

from attrs import frozen

from stator.client.client import Config as ClientConfig
from stator.collectors.catalog import BUILT_IN, Chosen, Collectors, PluginConfigs
from stator.exporter import Config as MetricsConfig
from stator.exposition.negotiation import Formats
from stator.log.logger import Config as LoggerConfig
from stator.log.logger import Log
from stator.plugins.discovery import find
from stator.roster.consul.registrar import Config as ConsulConfig
from stator.roster.file_sd import Config as FileConfig
from stator.roster.registrar import Registrar
from stator.roster.roster import Config as RosterConfig
from stator.server.supervisor import Config as ServerConfig
from stator.settings.declare import part, variables_of, walk
from stator.settings.extend import with_others, with_parts


@frozen
class Config:
    """All that Stator can be told."""

    logger: LoggerConfig = part(LoggerConfig)
    client: ClientConfig = part(ClientConfig)
    consul: ConsulConfig = part(ConsulConfig)
    roster: RosterConfig = part(RosterConfig)
    file: FileConfig = part(FileConfig)
    collectors: Collectors = part(Collectors, env="")
    metrics: MetricsConfig = part(MetricsConfig)
    server: ServerConfig = part(ServerConfig)

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
                return self.file.new()
            case "none":
                return None
        return self.consul.new(self.client.new(log), self.consul.heartbeat(log)) if self.client.base_uri else None

    def formats(self) -> Formats:
        """What scrapers can be answered in."""
        return Formats(self.metrics.timestamps)


def extended(prefix: str, variables: Mapping[str, str]) -> type[Config]:
    """The root Config class for an environment: with the settings of the plugins that it chooses.

    They must be loaded before the rest is read. What is wrong with them is kept, and told with all other problems.
    """
    if not any(variables.get(each.name) for each in walk(Chosen, prefix)):
        return Config
    from stator.settings.environment import ConfigError, decode  # slow to import

    try:
        chosen = decode(Chosen, prefix, variables)
    except ConfigError:
        return Config  # told when the rest is read
    own = [name for name in chosen.enabled if name not in BUILT_IN]
    if not own:
        return Config
    found = find(own, chosen.plugins_path, prefix, variables_of(Config, prefix))
    parts = {each.name: (each.name.upper(), each.config) for each in found.plugins.values() if each.config}
    collectors = with_others(Collectors, {"plugins": with_parts(PluginConfigs, parts)}, found=found)
    return with_others(Config, {"collectors": collectors})
