"""The built-in collectors by name, and which collectors run."""

from collections.abc import Iterator

from attrs import evolve, field, frozen

from stator.collectors.diskusage import DiskUsageConfig
from stator.collectors.host.config import HostConfig
from stator.collectors.process import ProcessConfig
from stator.collectors.prometheus_client import PrometheusClientConfig
from stator.collectors.runtime import RuntimeConfig
from stator.collectors.scrape import ScrapeConfig
from stator.collectors.textfile import TextfileConfig
from stator.collectors.wave import WaveConfig
from stator.plugins.discovery import UNKNOWN, Plugins, available
from stator.points import Collector, CollectorContext
from stator.settings.declare import declared_fields, options_of, section, setting, variable_part

DEFAULT = ("runtime", "diskusage", "wave")
ENABLED = "collectors that run: {}, a plugin's name, or module:Class for one of your own"


@frozen(eq=False, repr=False)
class Collectors:
    """Which collectors run, and their settings: a section registers a built-in one by the name that variables have."""

    enabled: tuple[str, ...] = setting(DEFAULT, env="COLLECTORS", desc=lambda: ENABLED.format(", ".join(BUILT_IN)))
    plugins_path: str = setting("", env="PLUGINS_PATH", desc="folder of plugins: each .py file of it is a collector")
    runtime: RuntimeConfig = section(RuntimeConfig)
    disk_usage: DiskUsageConfig = section(DiskUsageConfig)
    wave: WaveConfig = section(WaveConfig)
    process: ProcessConfig = section(ProcessConfig)
    host: HostConfig = section(HostConfig)
    text_files: TextfileConfig = section(TextfileConfig, env="TEXTFILE")
    prometheus_client: PrometheusClientConfig = section(PrometheusClientConfig, env="PROMETHEUS_CLIENT")
    scrape: ScrapeConfig = section(ScrapeConfig)
    plugins: Plugins = field(factory=Plugins)  # of the user's own, the chosen ones; no variable gives them

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields what is wrong with the folder of plugins, and which collectors don't exist or can't be loaded."""
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
        if "scrape" in self.enabled and not self.scrape.targets:
            yield "scrape.targets", "one target or more, since scrape is among STTR_COLLECTORS"
        if failures := self.plugins.failures:
            expected = "collectors that can be loaded"
            if any(failure.startswith(UNKNOWN) for failure in failures):
                expected = f"names out of {', '.join(names)}, or module:Class"
            yield "enabled", f"{expected}; {'; '.join(failures)}"

    def build(self, context: CollectorContext) -> dict[str, Collector]:
        """Returns the collectors that run, by name; raises StartError where one can't be built."""
        context = evolve(context, collectors=(*context.collectors, *self.enabled))
        built_in = {name: getattr(self, attribute) for name, attribute in BUILT_IN.items()}
        return {name: (built_in | self.plugins.found)[name].build(context) for name in self.enabled}


# Field names of the built-in collectors, by the names in STTR_COLLECTORS.
BUILT_IN: dict[str, str] = {
    variable_part(each).lower(): each.name for each in declared_fields(Collectors) if options_of(each).is_section
}
