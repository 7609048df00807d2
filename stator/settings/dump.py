"""A Config as plain data for people and JSON: durations readable, secrets masked."""

from typing import Any

import attrs

from stator.settings.declare import REDACTED, Secret, declared_fields, options_of
from stator.settings.duration import Duration
from stator.settings.masking import mask_texts


def dump(config: "attrs.AttrsInstance") -> dict[str, Any]:
    """Returns nested dictionaries with a Config's field names as keys; sections without settings are left out."""
    values = ((attribute.name, _dumped(config, attribute)) for attribute in declared_fields(type(config)))
    return {name: value for name, value in values if value != {}}


def _dumped(config: Any, attribute: "attrs.Attribute[Any]") -> Any:
    options, value = options_of(attribute), getattr(config, attribute.name)
    if options.is_section:
        return dump(value)
    if options.show:
        value = options.show(config, value)
    if isinstance(value, Secret):
        return REDACTED if value else ""
    return str(value) if isinstance(value, Duration) else mask_texts(value)
