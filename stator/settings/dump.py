"""A Config as plain data for people and JSON: durations readable, secrets hidden."""

from typing import Any

import attrs

from stator.settings.declare import REDACTED, Secret, declared
from stator.settings.duration import Duration


def dump(config: "attrs.AttrsInstance") -> dict[str, Any]:
    """Nested dictionaries with a Config's field names as keys."""
    return attrs.asdict(config, value_serializer=_shown)


def _shown(config: Any, attribute: "attrs.Attribute[Any] | None", value: Any) -> Any:
    if attribute is not None and (show := declared(attribute).show):
        value = show(config, value)
    if isinstance(value, Secret):
        return REDACTED if value else ""
    if isinstance(value, tuple):
        return [list(each) if isinstance(each, tuple) else each for each in value]
    return str(value) if isinstance(value, Duration) else value
