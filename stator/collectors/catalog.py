"""Which collectors there are, and which of them run."""

from collections.abc import Callable, Iterator
from typing import ClassVar

from attrs import frozen

from stator.collectors.diskusage import Config as DiskUsageConfig
from stator.collectors.host.config import Config as HostConfig
from stator.collectors.process import FAMILIES as PROCESS_FAMILIES
from stator.collectors.process import Config as ProcessConfig
from stator.collectors.prometheus_client import Config as PrometheusRegistryConfig
from stator.collectors.runtime import Config as RuntimeConfig
from stator.collectors.textfile import Config as TextFilesConfig
from stator.collectors.wave import Config as WaveConfig
from stator.exposition.encoder import Exposition, Formatter
from stator.exposition.text import TEXT_0_0_4
from stator.log.logger import Log
from stator.plugins.discovery import UNKNOWN, Found, available
from stator.points import Collector
from stator.processes.service import Processes
from stator.settings.declare import part, setting

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
