"""The root Config: each part's own Config under its name, and the choice among implementations."""

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

from attrs import frozen

from stator.client.client import Config as ClientConfig
from stator.collectors.disk_usage import Config as DiskUsageConfig
from stator.collectors.host.config import Config as HostConfig
from stator.collectors.process import FAMILIES as PROCESS_FAMILIES
from stator.collectors.process import Config as ProcessConfig
from stator.collectors.prometheus_registry import Config as PrometheusRegistryConfig
from stator.collectors.runtime import Config as RuntimeConfig
from stator.collectors.text_files import Config as TextFilesConfig
from stator.collectors.wave import Config as WaveConfig
from stator.exporter import Config as MetricsConfig
from stator.exposition.encoder import Exposition, Formatter
from stator.exposition.negotiation import Formats
from stator.exposition.text import TEXT_0_0_4
from stator.log.logger import Config as LoggerConfig
from stator.log.logger import Log
from stator.plugins.discovery import UNKNOWN, Found, available, find
from stator.points import Collector
from stator.processes.service import Processes
from stator.roster.registrar import Registrar
from stator.roster.registrars.consul import Config as ConsulConfig
from stator.roster.registrars.file import Config as FileConfig
from stator.roster.roster import Config as RosterConfig
from stator.server.supervisor import Config as ServerConfig
from stator.settings.declare import part, setting, variables_of, walk
from stator.settings.extend import with_others, with_parts

DEFAULT = ("runtime", "diskusage", "wave")
BUILT_IN = (*DEFAULT, "process", "host", "textfile", "prometheus_client")


@frozen
class Run:
    """What collectors may tell of, or need to know of, this run of the program."""

    app_id: str
    run_id: str
    processes: Processes
    log: Log


@frozen
class Chosen:
    """Which collectors run, and where the user's own are."""

    enabled: tuple[str, ...] = setting(
        DEFAULT,
        env="COLLECTORS",
        desc=f"collectors that run: {', '.join(BUILT_IN)}, a plugin's name, or module:Class for one of your own",
    )
    plugins_path: str = setting("", env="PLUGINS_PATH", desc="folder of plugins: each .py file of it is a collector")


@frozen
class PluginConfigs:
    """What plugins can be told; `extended` gives it a part for each that has settings."""


@frozen
class Collectors(Chosen):
    """The collectors, and what each can be told."""

    # Those of the user's own that are chosen; `extended` knows.
    found: ClassVar[Found] = Found()

    disk_usage: DiskUsageConfig = part(DiskUsageConfig)
    wave: WaveConfig = part(WaveConfig)
    host: HostConfig = part(HostConfig)
    text_files: TextFilesConfig = part(TextFilesConfig, env="TEXTFILE")
    plugins: PluginConfigs = part(PluginConfigs, env="")

    def problems(self) -> Iterator[tuple[str, str]]:
        """A folder that can't be read, and names of collectors that don't exist or can't be loaded."""
        names = list(BUILT_IN)
        if self.plugins_path:
            try:
                plugins = available(self.plugins_path)
            except OSError as error:
                yield "plugins_path", f"a readable folder ({error.strerror})"
            else:
                if hidden := [f"{name}.py" for name in plugins if name in BUILT_IN]:
                    yield "plugins_path", f"no file to be called as a built-in collector: {', '.join(hidden)}"
                names += plugins
        if "textfile" in self.enabled and not self.text_files.paths:
            yield "text_files.paths", "one folder or more, since textfile is among STTR_COLLECTORS"
        if self.found.failures:
            wanted = "collectors that can be loaded"
            if any(failure.startswith(UNKNOWN) for failure in self.found.failures):
                wanted = f"names out of {', '.join(names)}, or module:Class"
            yield "enabled", f"{wanted}; {'; '.join(self.found.failures)}"

    def new(self, run: Run) -> dict[str, Collector]:
        """The collectors by name.

        Raises:
            StartError: One of the user's own can't be made.
        """
        built_in = self._built_in(run)
        return {name: built_in[name]() if name in built_in else self._plugin(name) for name in self.enabled}

    def _built_in(self, run: Run) -> dict[str, Callable[[], Collector]]:
        return {
            "runtime": lambda: RuntimeConfig().new(run.app_id, run.run_id, run.processes),
            "process": lambda: ProcessConfig().new(run.processes),
            "diskusage": self.disk_usage.new,
            "wave": self.wave.new,
            "host": lambda: self.host.new(run.log),
            "textfile": lambda: self.text_files.new(_trial, run.log),
            "prometheus_client": lambda: PrometheusRegistryConfig().new(
                without=PROCESS_FAMILIES if "process" in self.enabled else ()
            ),
        }

    def _plugin(self, name: str) -> Collector:
        plugin = self.found.plugins[name]
        made: Collector = plugin.new(getattr(self.plugins, plugin.name, None))
        return made


def _trial() -> Exposition:
    return Formatter(TEXT_0_0_4, timestamps=False).exposition()


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
