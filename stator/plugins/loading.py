"""Loads collectors of the user's own: out of a module, or out of a plain file."""

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from stator.settings.declare import StartError


def search(folder: Path) -> None:
    """Has modules be searched in a folder too, after all else."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def load_class(spec: str) -> Callable[..., Any]:
    """The class that a ``module:Class`` names; the working folder is searched too, after all else.

    Raises:
        StartError: There is no such class, or it has no ``collect``; the message says why.
    """
    module_name, _, class_name = spec.partition(":")
    with suppress(OSError):  # it may have been removed
        search(Path.cwd())
    try:
        found = getattr(import_module(module_name), class_name, None)
    except (Exception, SystemExit) as error:  # the module is anybody's code, a script even
        msg = f"{spec} can't be imported: {why(error)}"
        raise StartError(msg) from error
    if not isinstance(found, type):
        msg = f"{spec} can't be found: {module_name} has no class {class_name!r}"
        raise StartError(msg)
    if not _collects(found):
        msg = f"{spec} is no collector: it has no method collect(now)"
        raise StartError(msg)
    return found


def load_file(file: Path) -> Callable[..., Any]:
    """The one collector's class in a file.

    Classes whose names begin with an underscore, and those that the file imports, are not meant.

    Raises:
        StartError: The file can't be imported, or has no such class, or several; the message says why.
    """
    module = _import_file(file)
    classes: dict[str, type[Any]] = {
        name: value
        for name, value in vars(module).items()
        if _collects(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    if not classes:
        msg = f"{file} has no collector: no class with a method collect(now)"
        raise StartError(msg)
    if len(set(classes.values())) > 1:
        specs = ", ".join(f"{file.stem}:{name}" for name in classes)
        msg = f"{file} has several collectors: name those that are to run as {specs}"
        raise StartError(msg)
    return next(iter(classes.values()))


def why(error: BaseException) -> str:
    """What went wrong in somebody else's code, and where, in one line."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename.startswith("<frozen importlib"):
        return said
    return f"{said} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _import_file(file: Path) -> ModuleType:
    # Not by the file's own name: `queue.py` is not to be mistaken for Python's.
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
        msg = f"{file} can't be imported: {why(error)}"
        raise StartError(msg) from error
    return module


def _collects(found: object) -> bool:
    return isinstance(found, type) and callable(getattr(found, "collect", None))
