"""Private names of other projects, on which hardly anything may hang."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import prometheus_client

import stator
from stator.instrumentation import library

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


def test_what_shared_metrics_lean_on_in_prometheus_client_is_there() -> None:
    parent = prometheus_client.Counter("leaned_on", "", ["a"], registry=None)
    metric = parent.labels("x")
    gauge = prometheus_client.Gauge("leaned_on", "", registry=None)
    gauge.set_function(lambda: 1)
    enum = prometheus_client.Enum("leaned_on", "", states=["a", "b"], registry=None)
    info = prometheus_client.Info("leaned_on", "", registry=None)
    info.info({"a": "x"})
    assert getattr(metric, library.LABEL_NAMES) == ("a",)
    assert getattr(metric, library.LABEL_VALUES) == ("x",)
    assert getattr(parent, library.CHILDREN) == {("x",): metric}
    assert callable(getattr(metric, library.START))
    assert type(getattr(metric, library.VALUE)) is prometheus_client.values.MutexValue
    assert prometheus_client.values.ValueClass is prometheus_client.values.MutexValue
    assert getattr(metric, library.CREATED) > 0
    assert library.SAMPLES in vars(gauge)
    assert (getattr(enum, library.STATES), getattr(enum, library.VALUE)) == (["a", "b"], 0)
    assert getattr(info, library.VALUE) == {"a": "x"}


def test_only_one_module_leans_on_the_inside_of_prometheus_client() -> None:
    sources = Path(stator.__path__[0]).rglob("*.py")
    names = [f'"{name}"' for name in {*library.PRIVATE} - {library.CREATED}]  # that ends the names of samples, too
    assert {source.name for source in sources if any(name in source.read_text() for name in names)} == {"library.py"}


def test_no_private_name_of_another_project_is_used() -> None:
    sources = Path(stator.__path__[0]).rglob("*.py")
    assert [str(source) for source in sources if "SLF001" in source.read_text()] == []
