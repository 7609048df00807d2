"""Builds one Config from variables alone, as a start does with all of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from stator.settings.environment import Reader

C = TypeVar("C")
NOTHING: Mapping[str, Any] = MappingProxyType({})


def decode(config: type[C], prefix: str, variables: Mapping[str, str], given: Mapping[str, Any] = NOTHING) -> C:
    """Returns a Config.

    Raises:
        ConfigError: Some variables can't be used.
    """
    reader = Reader(variables, given)
    decoded = reader.read(config, prefix)
    reader.check(decoded, prefix)
    reader.finish()
    return decoded
