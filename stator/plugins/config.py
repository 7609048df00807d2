"""Checks the Config class of a plugin, before a variable is read for it."""

from collections.abc import Iterator
from typing import Any

import attrs

from stator.settings.declare import Setting, declared_fields, iter_settings, options_of
from stator.settings.types import SETTING_TYPES, setting_type


def config_problems(config: Any) -> Iterator[str]:
    """Yields why no environment can give a Config; only the first counts, since checks rely on those before."""
    yield from _field_problems(config)
    for setting in iter_settings(config, ""):
        if reason := _invalid(setting):
            yield f"Config.{'.'.join(setting.path)} {reason}"
    try:
        config()
    except Exception as error:  # noqa: BLE001 # a plugin's code
        yield f"its Config can't have its defaults: {type(error).__name__}: {error}"


def _field_problems(config: Any) -> Iterator[str]:
    """Yields what is wrong with the types and declarations of a Config's fields, and of its sections'."""
    if not (isinstance(config, type) and attrs.has(config)):
        yield "Config must be an attrs class: put @attrs.frozen above it"
    try:
        attrs.resolve_types(config)  # they are texts where the module imports annotations from __future__
    except (NameError, AttributeError, TypeError) as error:
        yield f"the types of its Config can't be found: {error}"
    declared = list(declared_fields(config))
    for attribute in attrs.fields(config):
        if attribute not in declared:
            yield f"Config.{attribute.name} must be declared with setting(...)"
        if options_of(attribute).is_section:
            yield from _field_problems(attribute.type)


def _invalid(setting: Setting) -> str | None:
    """Returns why a setting's declaration is invalid, or None."""
    plain = (float, int) if setting.type is float else setting.type
    if setting.type in SETTING_TYPES and isinstance(setting.type, type) and not isinstance(setting.default, plain):
        return f"is to be a {setting.type.__name__}, which its default {setting.default!r} is not"
    try:
        setting_type(setting.type).write(setting.default)
    except (KeyError, TypeError, ValueError):
        types = ", ".join(each.__name__ if isinstance(each, type) else str(each) for each in SETTING_TYPES)
        return f"can't be a {setting.type} with the default {setting.default!r}; what a setting can be: {types}"
    try:
        holds = setting.check is None or setting.check.holds(setting.default)
    except Exception:  # noqa: BLE001 # a plugin's code
        holds = False
    if holds or not setting.check:
        return None
    return f"is to be {setting.check.expected}, which its default {setting.default!r} is not"
