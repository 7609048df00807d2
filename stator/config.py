"""The root Config: each part's own Config under its name, and the choice among implementations."""

from collections.abc import Iterator

from attrs import frozen

from stator.client import Config as ClientConfig
from stator.collection import Collector
from stator.collectors.disk_usage import Config as DiskUsageConfig
from stator.collectors.loading import load_class, make
from stator.collectors.runtime import Config as RuntimeConfig
from stator.collectors.wave import Config as WaveConfig
from stator.exporter import Config as MetricsConfig
from stator.formatters.negotiation import Formats
from stator.launch.settings import StartError, part, setting
from stator.log import Config as LoggerConfig
from stator.log import Log
from stator.roster.registrar import Registrar
from stator.roster.registrars.consul import Config as ConsulConfig
from stator.roster.registrars.file import Config as FileConfig
from stator.roster.roster import Config as RosterConfig
from stator.server.supervisor import Config as ServerConfig

BUILT_IN = ("runtime", "diskusage", "wave")


@frozen
class Collectors:
    """Which collectors run, and what each can be told."""

    enabled: tuple[str, ...] = setting(
        BUILT_IN,
        env="COLLECTORS",
        desc=f"collectors that run: {', '.join(BUILT_IN)}, or module:Class for one of your own",
    )
    disk_usage: DiskUsageConfig = part(DiskUsageConfig)
    wave: WaveConfig = part(WaveConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Names of collectors that don't exist or can't be loaded."""
        if reasons := [reason for name in self.enabled if (reason := _unusable(name))]:
            yield "enabled", f"names out of {', '.join(BUILT_IN)}, or module:Class; {'; '.join(reasons)}"

    def new(self, app_id: str, run_id: str) -> dict[str, Collector]:
        """The collectors by name.

        Raises:
            StartError: One of the user's own can't be made.
        """
        return {name: self._make(name, app_id, run_id) for name in self.enabled}

    def _make(self, name: str, app_id: str, run_id: str) -> Collector:
        match name:
            case "runtime":
                return RuntimeConfig().new(app_id, run_id)
            case "diskusage":
                return self.disk_usage.new()
            case "wave":
                return self.wave.new()
        made: Collector = make(name)
        return made


def _unusable(name: str) -> str | None:
    """Why no collector goes by a name."""
    if ":" not in name:
        return None if name in BUILT_IN else f"there is no {name!r}"
    try:
        load_class(name)
    except StartError as error:
        return str(error)
    return None


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
        return self.consul.new(self.client.new(log)) if self.client.base_uri else None

    def formats(self) -> Formats:
        """What scrapers can be answered in."""
        return Formats(self.metrics.timestamps)
