"""Private names of other projects, on which hardly anything may hang."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import stator

# Private methods that are overridden, and why.
OVERRIDDEN = {
    "stator.server.worker.Worker._serve",  # there is no other way to give uvicorn's worker a server
    "stator.settings.environment._Reader._get_value",
    "stator.settings.command_line._Parser._print_message",
}


def overridden() -> Iterator[str]:
    """Private methods of other projects' classes that ours override."""
    for module in walk_packages(stator.__path__, "stator."):
        if module.name.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(import_module(module.name), inspect.isclass):
            if cls.__module__ == module.name:
                inherited = [base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] != "stator"]
                for name, value in vars(cls).items():
                    is_private = name.startswith("_") and not name.startswith("__")
                    if is_private and inspect.isfunction(value) and any(name in vars(base) for base in inherited):
                        yield f"{cls.__module__}.{cls.__qualname__}.{name}"


def test_hardly_any_private_method_of_another_project_is_overridden() -> None:
    assert set(overridden()) <= OVERRIDDEN
    assert len(OVERRIDDEN) <= 3


def test_no_private_name_of_another_project_is_used() -> None:
    sources = Path(stator.__path__[0]).rglob("*.py")
    assert [str(source) for source in sources if "SLF001" in source.read_text()] == []
