"""Finds plugins, classes that collect or register, by names: ``module:Class``, a file's, or an entry point's.

A class with an attribute ``Config``, an attrs class of fields declared with `setting`, is called with such a Config.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from keyword import iskeyword
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from stator.plugins.config import config_problems
from stator.plugins.loading import PluginType, add_search_path, describe, load_class, load_file
from stator.settings.declare import Setting, StartError, iter_settings, variables_of

# How the failure of a name begins that names nothing.
UNKNOWN = "there is no"
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@frozen(eq=False, repr=False)
class NoConfig:
    """The Config of a class that has none."""


@frozen(eq=False, repr=False)
class Plugin:
    """A class of the user's own."""

    spec: str  # the name by which it is chosen: queue_depth, or module:Class
    name: str  # of its settings: queue_depth
    prefix: str  # of its variables: STTR_QUEUE_DEPTH
    make: Callable[..., Any]
    config_type: type[Any]
    config: Any = None  # once it is decoded

    def settings(self) -> Iterator[Setting]:
        """Returns its settings."""
        return iter_settings(self.config_type, self.prefix)

    def build(self, context: object = None) -> Any:
        """Returns an instance; raises StartError where the class raises anything."""
        try:
            return self.make() if self.config_type is NoConfig else self.make(self.config)
        except (Exception, SystemExit) as error:
            msg = f"{self.spec} can't be made: {describe(error)}"
            raise StartError(msg) from error


@frozen(eq=False, repr=False)
class Plugins:
    """The plugins that were chosen, by the names that chose them; a sentence for each name without one says why."""

    found: dict[str, Plugin] = field(factory=dict)
    failures: list[str] = field(factory=list)

    def settings(self) -> list[Setting]:
        """Returns the settings of all plugins."""
        return [setting for each in self.found.values() for setting in each.settings()]

    def configs(self) -> dict[str, Any]:
        """Returns the plugins' Configs by name."""
        return {each.name: each.config for each in self.found.values() if each.config_type is not NoConfig}

    def decoded(self, read: Callable[[Any, str], Any]) -> "Plugins":
        """Returns the same plugins with Configs, which a function reads from the class and the prefix."""
        found = {spec: evolve(each, config=read(each.config_type, each.prefix)) for spec, each in self.found.items()}
        return evolve(self, found=found)


def load_plugins(kind: PluginType, specs: Iterable[str], folder: str, prefix: str, taken: Iterable[str]) -> Plugins:
    """Loads plugins, whose modules may lie in the folder too; `taken` are the variables that other settings read."""
    plugins, known = Plugins(), set(taken)
    for spec in dict.fromkeys(specs):
        try:
            plugin = _load(kind, spec, folder, prefix)
            _check_conflicts(plugin, plugins.found.values(), known)
        except StartError as error:
            plugins.failures.append(str(error))
        else:
            known |= variables_of(plugin.settings())
            plugins.found[spec] = plugin
    return plugins


def available(folder: str) -> list[str]:
    """Returns the names of the plugins in a folder of plain files; raises OSError where it can't be read."""
    return sorted(file.stem for file in Path(folder).iterdir() if file.suffix == ".py" and file.name[0] != "_")


def _load(kind: PluginType, spec: str, folder: str, prefix: str) -> Plugin:
    if folder:
        add_search_path(Path(folder).absolute())
    if ":" in spec:
        found = load_class(spec, kind)
        name = _WORDS.sub("_", found.__name__).lower().strip("_")
    else:
        found = _load_named(kind, spec, folder)
        name = re.sub(r"\W", "_", spec).lower()
    config = getattr(found, "Config", NoConfig)
    if config is not NoConfig:
        if not name.isidentifier() or iskeyword(name):
            msg = f"{spec} can't have settings: {name!r} is no name in Python"
            raise StartError(msg)
        if problem := next(config_problems(config), None):
            msg = f"{spec}: {problem}"
            raise StartError(msg)
    return Plugin(spec, name, f"{prefix}_{name.upper()}", found, config)


def _load_named(kind: PluginType, spec: str, folder: str) -> type:
    """Returns the class of a file or an entry point."""
    from importlib.metadata import entry_points

    file = None
    with suppress(OSError):  # a problem of the folder, and not of the name
        file = Path(folder, f"{spec}.py").absolute() if folder and spec in available(folder) else None
    installed = list(entry_points(group=f"stator.{kind}s", name=spec))
    sources = [str(file)] if file else []
    sources += [
        f"{each.value} of the package {each.dist.name if each.dist else 'without a name'}" for each in installed
    ]
    if len(sources) != 1:
        several = f"{spec!r} may be {' or '.join(sources)}: there must be one"
        raise StartError(several if sources else f"{UNKNOWN} {spec!r}")
    return load_file(file, kind) if file else load_class(f"{installed[0].module}:{installed[0].attr}", kind)


def _check_conflicts(plugin: Plugin, others: Iterable[Plugin], known: set[str]) -> None:
    """Raises StartError where a plugin's settings have the name or a variable of others."""
    for other in others:
        if plugin.name == other.name and NoConfig not in (plugin.config_type, other.config_type):
            msg = f"{plugin.spec} and {other.spec} both call their settings {plugin.name.upper()}: rename one of them"
            raise StartError(msg)
    if taken := known & variables_of(plugin.settings()):
        msg = f"{plugin.spec} can't have a setting {min(taken)}: there is one already"
        raise StartError(msg)
