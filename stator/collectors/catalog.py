"""Which collectors there are, and which of them run."""

from collections.abc import Callable, Iterator
from typing import ClassVar

from attrs import frozen

from stator.collectors.diskusage import DiskUsageConfig
from stator.collectors.host.config import HostConfig
from stator.collectors.process import FAMILIES as PROCESS_FAMILIES
from stator.collectors.process import ProcessConfig
from stator.collectors.prometheus_client import PrometheusClientConfig
from stator.collectors.runtime import RuntimeConfig
from stator.collectors.textfile import TextfileConfig
from stator.collectors.wave import WaveConfig
from stator.exposition.encoder import Encoder, Exposition
from stator.exposition.text import TEXT_0_0_4
from stator.log.logger import Log
from stator.plugins.discovery import UNKNOWN, Plugins, available
from stator.points import Collector
from stator.processes.service import ServiceProcesses
from stator.settings.declare import section, setting

DEFAULT = ("runtime", "diskusage", "wave")
BUILT_IN = (*DEFAULT, "process", "host", "textfile", "prometheus_client")


@frozen
class CollectorContext:
    """What collectors may tell of, or need to know of, this run of the program."""

    app_id: str
    run_id: str
    processes: ServiceProcesses
    log: Log


@frozen
class CollectorSelection:
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
class Collectors(CollectorSelection):
    """The collectors, and what each can be told."""

    # Those of the user's own that are chosen; `extended` knows.
    found: ClassVar[Plugins] = Plugins()

    disk_usage: DiskUsageConfig = section(DiskUsageConfig)
    wave: WaveConfig = section(WaveConfig)
    host: HostConfig = section(HostConfig)
    text_files: TextfileConfig = section(TextfileConfig, env="TEXTFILE")
    plugins: PluginConfigs = section(PluginConfigs, env="")

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

    def build(self, run: CollectorContext) -> dict[str, Collector]:
        """The collectors by name.

        Raises:
            StartError: One of the user's own can't be made.
        """
        built_in = self._built_in(run)
        return {name: built_in[name]() if name in built_in else self._plugin(name) for name in self.enabled}

    def _built_in(self, run: CollectorContext) -> dict[str, Callable[[], Collector]]:
        return {
            "runtime": lambda: RuntimeConfig().build(run.app_id, run.run_id, run.processes),
            "process": lambda: ProcessConfig().build(run.processes),
            "diskusage": self.disk_usage.build,
            "wave": self.wave.build,
            "host": lambda: self.host.build(run.log),
            "textfile": lambda: self.text_files.build(_trial, run.log),
            "prometheus_client": lambda: PrometheusClientConfig().build(
                without=PROCESS_FAMILIES if "process" in self.enabled else ()
            ),
        }

    def _plugin(self, name: str) -> Collector:
        plugin = self.found.plugins[name]
        made: Collector = plugin.build(getattr(self.plugins, plugin.name, None))
        return made


def _trial() -> Exposition:
    return Encoder(TEXT_0_0_4, timestamps=False).exposition()
