"""Loads a collector of the user's own, named as ``module:Class``."""

import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from stator.launch.settings import StartError


def load_class(spec: str) -> Callable[[], Any]:
    """The class that a ``module:Class`` names; the working folder is searched too, after all else.

    Raises:
        StartError: There is no such class, or it has no ``collect``; the message says why.
    """
    module_name, _, class_name = spec.partition(":")
    _search_working_folder()
    try:
        found = getattr(import_module(module_name), class_name, None)
    except (Exception, SystemExit) as error:  # the module is anybody's code, a script even
        msg = f"{spec} can't be imported: {type(error).__name__}: {error}"
        raise StartError(msg) from error
    if not isinstance(found, type):
        msg = f"{spec} can't be found: {module_name} has no class {class_name!r}"
        raise StartError(msg)
    if not callable(getattr(found, "collect", None)):
        msg = f"{spec} is no collector: it has no method collect(now)"
        raise StartError(msg)
    return found


def make(spec: str) -> Any:
    """A collector of the class that a ``module:Class`` names.

    Raises:
        StartError: It can't be loaded or made.
    """
    class_ = load_class(spec)
    try:
        return class_()
    except (Exception, SystemExit) as error:
        msg = f"{spec} can't be made: {type(error).__name__}: {error}"
        raise StartError(msg) from error


def _search_working_folder() -> None:
    with suppress(OSError):  # it may have been removed
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
