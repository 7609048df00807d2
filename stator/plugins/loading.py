"""Loads a plugin's class from a module or from a plain file, or raises a StartError that says why it can't."""

import sys
import traceback
from contextlib import suppress
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

from stator.settings.declare import StartError

PluginType: TypeAlias = Literal["collector", "registrar"]
# The methods that a class of each type must have.
METHODS: dict[PluginType, tuple[str, ...]] = {
    "collector": ("collect(now)",),
    "registrar": ("register(service)", "unregister(service)", "observe(service)", "cancel()", "close()"),
}


def add_search_path(folder: Path) -> None:
    """Lets modules be imported from a folder too, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def find_attribute(spec: str, subject: str = "") -> Any:
    """Returns what a ``module:name`` names, None if the module has no such name; it may lie in the working folder.

    Raises:
        StartError: The module can't be imported; the message begins with the subject, or else with the spec.
    """
    module_name, _, name = spec.partition(":")
    with suppress(OSError):  # it may have been removed
        add_search_path(Path.cwd())
    try:
        return getattr(import_module(module_name), name, None)
    except (Exception, SystemExit) as error:  # the module may hold any code, even a script
        msg = f"{subject or spec} can't be imported: {describe(error)}"
        raise StartError(msg) from error


def load_class(spec: str, kind: PluginType) -> type:
    """Returns the class that a ``module:Class`` names; the module may lie in the working folder."""
    module_name, _, class_name = spec.partition(":")
    found = find_attribute(spec)
    if not isinstance(found, type):
        msg = f"{spec} can't be found: {module_name} has no class {class_name!r}"
        raise StartError(msg)
    if missing := _missing(found, kind):
        msg = f"{spec} is no {kind}: it has no method {missing[0]}"
        raise StartError(msg)
    return found


def load_file(file: Path, kind: PluginType) -> type:
    """Returns the only plugin's class in a file: not an imported one, nor one whose name begins with an underscore."""
    module = _import_file(file)
    found = {name: each for name, each in vars(module).items() if not name.startswith("_") and isinstance(each, type)}
    own = {name: each for name, each in found.items() if each.__module__ == module.__name__}
    classes = {name: each for name, each in own.items() if not _missing(each, kind)}
    if not classes:
        msg = f"{file} has no {kind}: no class with a method {METHODS[kind][0]}"
        raise StartError(msg)
    if len(set(classes.values())) > 1:
        specs = ", ".join(f"{file.stem}:{name}" for name in classes)
        msg = f"{file} has several {kind}s: name those that are to run as {specs}"
        raise StartError(msg)
    return next(iter(classes.values()))


def describe(error: BaseException) -> str:
    """Returns in one line what went wrong in a plugin's code, and where."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename.startswith("<frozen importlib"):
        return text
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _missing(found: type, kind: PluginType) -> list[str]:
    """Returns the methods that a class of this type lacks."""
    return [each for each in METHODS[kind] if not callable(getattr(found, each.partition("(")[0], None))]


def _import_file(file: Path) -> ModuleType:
    # Not under the file's own name: `queue.py` must not be taken for Python's.
    name = f"stator_plugin_{file.stem}"
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"{file} can't be imported: it's no Python file"
        raise StartError(msg)
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        msg = f"{file} can't be imported: {describe(error)}"
        raise StartError(msg) from error
    return module
