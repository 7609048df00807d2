"""The keywords of a Stator: what each can be, and what is wrong with a value."""

import inspect
import logging
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Any, Literal, TypedDict

from stator.collectors.prometheus_client import Registry
from stator.log.logger import Log
from stator.points import Collector
from stator.web.health import Check


class Keywords(TypedDict, total=False):
    """The keywords of `stator.Stator`, which its shorthands pass on; None leaves one open."""

    service: str | None
    version: str | None
    tags: Collection[str] | None
    meta: Mapping[str, str] | None
    consul: str | None
    collectors: Iterable[str | Collector | Registry] | None
    checks: Mapping[str, Check] | None
    check_timeout: float | None
    access_log: Literal["line", "full", "off"] | None
    exclude: Collection[str] | None
    body_sizes: bool | None
    share_metrics: bool | None
    page: bool | None
    environ: Mapping[str, str] | None
    log: Log | logging.Logger | None


def check_keywords(keywords: Mapping[str, object]) -> tuple[dict[str, Any], list[str]]:
    """Returns the keywords that can be used, and what is wrong with others; `split_collectors` looks at collectors."""
    usable, problems = {}, []
    for name, value in keywords.items():
        holds, expected = _EXPECTED.get(name, _UNKNOWN)
        if holds(value):
            usable[name] = value
        elif value is not None or name not in _EXPECTED:
            given = f"={value!r}" if name in _EXPECTED and name not in _SECRET else ""
            problems.append(f"{name}{given}: expected {expected}")
    return usable, problems


def split_collectors(collectors: Iterable[Any]) -> tuple[list[str], dict[str, Any], list[str]]:
    """Returns the names among collectors, the objects by name, and what is wrong, a line for each."""
    names: list[str] = []
    own: dict[str, Any] = {}
    problems = []
    for each in collectors:
        if isinstance(each, str):
            names.append(each)
            continue
        name = getattr(each, "name", type(each).__name__.lower())
        if is_registry(each):  # registries have no names: registry, registry2 and so on
            number = sum(map(is_registry, own.values())) + 1
            name = f"registry{number}" if number > 1 else "registry"
        if expected := _expected_of(each, name, own):
            problems.append(f"collectors=[{each!r}]: expected {expected}")
        else:
            own[name] = each
    return names, own, problems


def is_port(value: object, lowest: int = 1) -> bool:
    """Whether this is the number of a port."""
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value < 65536


def is_registry(collector: object) -> bool:
    """Whether this is a registry of prometheus_client, which whoever made one has imported."""
    library = sys.modules.get("prometheus_client")
    return library is not None and isinstance(collector, library.CollectorRegistry)


def _expected_of(collector: Any, name: object, own: Mapping[str, object]) -> str:
    """Returns what a collector should be instead, or an empty text if it is right."""
    if isinstance(collector, type):
        return f"an instance, as in collectors=[{collector.__name__}()]"
    if not (is_registry(collector) or _is_collect(getattr(collector, "collect", None))):
        return "a method collect(now), not async, or a registry of prometheus_client"
    if not _is_text(name):
        return f"a text in its attribute 'name', not {name!r}"
    return f"another name in its attribute 'name', as there are two of {name!r}" if name in own else ""


def _is_collect(method: Any) -> bool:
    """Whether this can be called with the time, as a metric's or collector's of prometheus_client can't be."""
    if not callable(method) or inspect.iscoroutinefunction(method):
        return False
    try:
        inspect.signature(method).bind(0.0)
    except TypeError:
        return False
    except ValueError:  # it is written in C
        return True
    return True


def _is_text(value: object) -> bool:
    """Whether this is a text that can be written as UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _are_texts(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str) and all(map(_is_text, value))


def _are_pairs(value: object, holds: Callable[[object], bool]) -> bool:
    return isinstance(value, Mapping) and all(_is_text(name) and holds(each) for name, each in value.items())


_EXPECTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "service": (_is_text, "a text"),
    "version": (_is_text, "a text"),
    "tags": (_are_texts, "a list of texts, as in tags=['blue']"),
    "meta": (lambda value: _are_pairs(value, _is_text), "texts by name, as in meta={'team': 'payments'}"),
    "consul": (_is_text, "a URI such as http://localhost:8500"),
    "collectors": (
        lambda value: isinstance(value, Iterable) and not isinstance(value, str),
        "a list of names and collectors, as in collectors=['runtime', Orders()]",
    ),
    "checks": (lambda value: _are_pairs(value, callable), "functions by name, as in checks={'db': ping_db}"),
    "check_timeout": (
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < inf,
        "seconds, more than 0",
    ),
    "access_log": (lambda value: value in ("line", "full", "off"), "line, full or off"),
    "exclude": (_are_texts, "a list of routes' templates, as in exclude=['/items/{id}']"),
    "body_sizes": (lambda value: isinstance(value, bool), "True or False"),
    **dict.fromkeys(("share_metrics", "page"), (lambda value: isinstance(value, bool), "True or False")),
    "environ": (lambda value: isinstance(value, Mapping), "texts by name, as in os.environ"),
    "log": (lambda value: callable(getattr(value, "warning", None)), "a logging.Logger"),
}
_UNKNOWN: tuple[Callable[[Any], bool], str] = (lambda _: False), f"one of the keywords {', '.join(_EXPECTED)}"
# Keywords whose values may hold passwords.
_SECRET = {"consul", "environ"}
