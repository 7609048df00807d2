"""Plugins: collectors of the user's own, found by the names that the environment gives, with settings of their own.

A plugin is a class with a method ``collect(now)``. It is named ``module:Class``; or as a file of the plugins' folder,
without its ``.py``; or as an entry point of the group ``stator.collectors``. Where the class has an attribute
``Config``, an attrs class whose fields are declared with `setting`, it's made with such a Config, otherwise without
arguments.
"""

import re
from collections.abc import Callable, Iterable
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from stator.plugins.loading import load_class, load_file, search, why
from stator.settings.declare import StartError, variables_of
from stator.settings.extend import refuse_unfit

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "stator.collectors"
# How the failure of a name begins that stands for nothing.
UNKNOWN = "there is no"
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@frozen
class Plugin:
    """A collector of the user's own.

    Attributes:
        spec: What it is called where collectors are chosen: ``queue_depth``, or ``module:Class``.
        name: What its settings are called: ``queue_depth``; in capitals in its variables.
        collector: Makes it.
        config: The class of its Config, if it has one.
    """

    spec: str
    name: str
    collector: Callable[..., Any]
    config: type[Any] | None

    def build(self, config: object) -> Any:
        """The collector, with its Config where it has one.

        Raises:
            StartError: It can't be made.
        """
        try:
            return self.collector() if self.config is None else self.collector(config)
        except (Exception, SystemExit) as error:
            msg = f"{self.spec} can't be made: {why(error)}"
            raise StartError(msg) from error


@frozen
class Plugins:
    """What was found by some names.

    Attributes:
        plugins: Plugins by the names that they were found by.
        failures: Why there is no plugin for the other names, a sentence for each.
    """

    plugins: dict[str, Plugin] = field(factory=dict)
    failures: list[str] = field(factory=list)


def find(specs: Iterable[str], folder: str, prefix: str, taken: Iterable[str]) -> Plugins:
    """Loads plugins; modules are searched in the folder too.

    Args:
        specs: Their names.
        folder: The folder of plain files, or empty where there is none.
        prefix: First part of each variable's name.
        taken: Variables that are read already.
    """
    found, known = Plugins(), set(taken)
    if folder:
        search(Path(folder).absolute())
    for spec in dict.fromkeys(specs):
        try:
            plugin = _plugin(spec, folder)
            own = set(variables_of(plugin.config, f"{prefix}_{plugin.name.upper()}")) if plugin.config else set()
            _refuse_clash(plugin, found, own & known)
        except StartError as error:
            found.failures.append(str(error))
        else:
            known |= own
            found.plugins[spec] = plugin
    return found


def available(folder: str) -> list[str]:
    """Names of the plugins in a folder of plain files.

    Raises:
        OSError: The folder can't be read.
    """
    return sorted(file.stem for file in Path(folder).iterdir() if file.suffix == ".py" and file.name[0] != "_")


def _plugin(spec: str, folder: str) -> Plugin:
    collector, name = _load(spec, folder)
    config = getattr(collector, "Config", None)
    if config is not None:
        if not name.isidentifier() or iskeyword(name):
            msg = f"{spec} can't have settings: {name!r} is no name in Python"
            raise StartError(msg)
        try:
            refuse_unfit(config)
        except StartError as error:
            msg = f"{spec}: {error}"
            raise StartError(msg) from error
    return Plugin(spec, name, collector, config)


def _load(spec: str, folder: str) -> tuple[Callable[..., Any], str]:
    """The class that a name stands for, and the name of its settings."""
    if ":" in spec:
        collector = load_class(spec)
        return collector, _WORDS.sub("_", collector.__name__).lower().strip("_")
    file = _file(spec, folder)
    installed = _installed(spec)
    sources = [f"{each.value} of the package {_package(each)}" for each in installed]
    if file:
        sources.insert(0, str(file))
    if len(sources) > 1:
        msg = f"{spec!r} may be {' or '.join(sources)}: there must be one"
        raise StartError(msg)
    if not sources:
        msg = f"{UNKNOWN} {spec!r}"
        raise StartError(msg)
    collector = load_file(file) if file else load_class(f"{installed[0].module}:{installed[0].attr}")
    return collector, re.sub(r"\W", "_", spec).lower()


def _file(name: str, folder: str) -> Path | None:
    try:
        is_there = bool(folder) and name in available(folder)
    except OSError:
        return None  # told as a problem of the folder
    return Path(folder, f"{name}.py").absolute() if is_there else None


def _installed(name: str) -> list["EntryPoint"]:
    from importlib.metadata import entry_points  # slow to import

    return list(entry_points(group=GROUP, name=name))


def _package(entry_point: "EntryPoint") -> str:
    return entry_point.dist.name if entry_point.dist else "without a name"


def _refuse_clash(plugin: Plugin, found: Plugins, twice: set[str]) -> None:
    for other in found.plugins.values():
        if plugin.config and other.config and plugin.name == other.name:
            msg = f"{plugin.spec} and {other.spec} both call their settings {plugin.name.upper()}: rename one of them"
            raise StartError(msg)
    if twice:
        msg = f"{plugin.spec} can't have a setting {min(twice)}: there is one already"
        raise StartError(msg)
