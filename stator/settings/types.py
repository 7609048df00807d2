"""The kinds of value that a setting can have: how each is named, read from text and written back."""

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from attrs import frozen

from stator.settings.declare import REDACTED, Secret
from stator.settings.duration import Duration

if TYPE_CHECKING:
    from environs import Env


@frozen
class SettingType:
    """One kind of value.

    Attributes:
        label: Its name in the table of settings.
        expected: What a text must be, for an error message.
        read: Reads a variable's value; raises ``environs.EnvError`` or ValueError.
        write: The text that reads back as the same value.
        keeps_empty: Whether an empty text is a value; if not, it stands for the default.
    """

    label: str
    expected: str
    read: Callable[["Env", str], Any]
    write: Callable[[Any], str] = str
    keeps_empty: bool = False


def setting_type(type_: Any) -> SettingType:
    """The kind of a field's type.

    Raises:
        KeyError: A setting was declared with a type that no text can be read as.
    """
    if get_origin(type_) is Literal:
        choices = ", ".join(get_args(type_))
        return SettingType(
            f"One of {choices}",
            f"one of {choices}",
            lambda env, name: _choice(env.str(name), get_args(type_)),
        )
    return SETTING_TYPES[type_]


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(text)
    return text


def _integer(env: "Env", name: str) -> int:
    number: int = env.int(name)
    # A longer one can't be shown as JSON.
    if not -(2**63) <= number < 2**63:
        raise ValueError(name)
    return number


def _number(env: "Env", name: str) -> float:
    number: float = env.float(name)
    # JSON has no word for the others.
    if not isfinite(number):
        raise ValueError(name)
    return number


def _words(env: "Env", name: str) -> tuple[str, ...]:
    words: list[str] = env.list(name)
    return tuple(word.strip() for word in words if word.strip())


def _pairs(env: "Env", name: str) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in _words(env, name)]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ValueError(name)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


SETTING_TYPES: dict[Any, SettingType] = {
    int: SettingType("Integer", "an integer of 64 bits", _integer),
    float: SettingType("Number", "a number", _number),
    bool: SettingType(
        "True or False", "true or false", lambda env, name: env.bool(name), lambda value: str(value).lower()
    ),
    str: SettingType("String", "a text", lambda env, name: env.str(name), keeps_empty=True),
    Secret: SettingType(
        "Secret", "a text", lambda env, name: Secret(env.str(name)), lambda _: REDACTED, keeps_empty=True
    ),
    Duration: SettingType(
        "Duration",
        "a duration such as 250ms, 10s or 1m30s",
        lambda env, name: Duration.parse(env.str(name).strip()),
        lambda duration: str(duration.brief),
    ),
    tuple[str, ...]: SettingType(
        "Comma-separated list of String", "a comma-separated list", _words, ",".join, keeps_empty=True
    ),
    tuple[tuple[str, str], ...]: SettingType(
        "Comma-separated list of String=String",
        "a comma-separated list of key=value",
        _pairs,
        lambda pairs: ",".join(f"{key}={value}" for key, value in pairs),
        keeps_empty=True,
    ),
}
