"""Checks the Config class of a plugin, before a variable is read for it."""

from typing import Any

import attrs

from stator.settings.declare import Setting, StartError, declared_fields, iter_settings, options_of
from stator.settings.types import SETTING_TYPES, setting_type


def check_config(config: Any) -> None:
    """Raises StartError where no environment can give a Config."""
    _check_fields(config)
    for setting in iter_settings(config, ""):
        if reason := _invalid(setting):
            msg = f"Config.{'.'.join(setting.path)} {reason}"
            raise StartError(msg)
    try:
        config()
    except Exception as error:
        msg = f"its Config can't have its defaults: {type(error).__name__}: {error}"
        raise StartError(msg) from error


def _check_fields(config: Any) -> None:
    """Checks the types and declarations of a Config's fields, and of its sections'."""
    if not (isinstance(config, type) and attrs.has(config)):
        msg = "Config must be an attrs class: put @attrs.frozen above it"
        raise StartError(msg)
    try:
        attrs.resolve_types(config)  # they are texts where the module imports annotations from __future__
    except (NameError, AttributeError, TypeError) as error:
        msg = f"the types of its Config can't be found: {error}"
        raise StartError(msg) from error
    declared = list(declared_fields(config))
    for attribute in attrs.fields(config):
        if attribute not in declared:
            msg = f"Config.{attribute.name} must be declared with setting(...)"
            raise StartError(msg)
        if options_of(attribute).is_section:
            _check_fields(attribute.type)


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
    if setting.check and not holds:
        return f"is to be {setting.check.expected}, which its default {setting.default!r} is not"
    return None
