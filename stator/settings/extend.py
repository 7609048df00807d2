"""Config classes made at the start: those of parts that nobody knew of when the program was written."""

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from stator.settings.declare import Setting, StartError, declared, is_declared, iter_settings, section
from stator.settings.types import SETTING_TYPES, setting_type

C = TypeVar("C")


def with_parts(config: type[C], parts: Mapping[str, tuple[str, type[Any]]]) -> type[C]:
    """A Config class with further parts.

    Args:
        config: The class that is extended.
        parts: By field name: the part's name in its variables, and its Config class.
    """
    fields = {name: section(inner, env=env) for name, (env, inner) in parts.items()}
    types = {name: inner for name, (_, inner) in parts.items()}
    return attrs.frozen(_subclass(config, __annotations__=types, **fields))


def with_others(config: type[C], parts: Mapping[str, type[Any]], **attributes: Any) -> type[C]:
    """A Config class that has other Config classes for some of its parts, at the same places.

    Args:
        config: The class that is changed.
        parts: The other parts by field name.
        attributes: Further attributes of the class.
    """

    def changed(_: type[Any], fields: list["attrs.Attribute[Any]"]) -> list["attrs.Attribute[Any]"]:
        others = {name: attrs.Factory(inner) for name, inner in parts.items()}
        return [
            each.evolve(type=parts[each.name], default=others[each.name]) if each.name in parts else each
            for each in fields
        ]

    return attrs.frozen(_subclass(config, **attributes), field_transformer=changed)


def refuse_unfit(config: Any) -> None:
    """Checks what somebody else declared as a Config.

    Raises:
        StartError: It is none; the message says why.
    """
    if not (isinstance(config, type) and attrs.has(config)):
        msg = "Config must be an attrs class: put @attrs.frozen above it"
        raise StartError(msg)
    try:
        attrs.resolve_types(config)  # texts, where the module imports annotations from __future__
    except (NameError, AttributeError, TypeError) as error:
        msg = f"the types of its Config can't be found: {error}"
        raise StartError(msg) from error
    for attribute in attrs.fields(config):
        if not is_declared(attribute):
            msg = f"Config.{attribute.name} must be declared with setting(...)"
            raise StartError(msg)
        if declared(attribute).is_part:
            refuse_unfit(attribute.type)
    for setting in iter_settings(config, ""):
        if reason := _unfit(setting):
            msg = f"Config.{'.'.join(setting.path)} {reason}"
            raise StartError(msg)
    try:
        config()
    except Exception as error:
        msg = f"its Config can't have its defaults: {type(error).__name__}: {error}"
        raise StartError(msg) from error


def _unfit(setting: Setting) -> str | None:
    """Why a setting can't be, if so."""
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
    except Exception:  # noqa: BLE001 # somebody else's code
        holds = False
    if setting.check and not holds:
        return f"is to be {setting.check.expected}, which its default {setting.default!r} is not"
    return None


def _subclass(config: type[C], **namespace: Any) -> type[C]:
    about = {"__module__": config.__module__, "__doc__": config.__doc__}
    made: type[C] = type(config.__name__, (config,), {"__annotations__": {}, **about, **namespace})
    return made
