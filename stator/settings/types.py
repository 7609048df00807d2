"""The types that a setting can have: how each is named, read from a text and written back."""

from collections.abc import Callable
from math import isfinite
from typing import Any, Literal, get_args, get_origin

from attrs import frozen

from stator.settings.declare import REDACTED, Secret
from stator.settings.duration import Duration

# The spellings of YAML 1.1, which Compose and Go's programs share.
BOOLEANS = dict.fromkeys(("1", "t", "true", "y", "yes", "on"), True) | dict.fromkeys(
    ("0", "f", "false", "n", "no", "off"), False
)


@frozen(eq=False, repr=False)
class SettingType:
    """A type: its name in the table of settings, what a text must be, and how texts become values and back."""

    label: str
    expected: str
    parse: Callable[[str], Any]  # raises ValueError, TypeError or LookupError where a text has no value
    write: Callable[[Any], str] = str  # the text that parses as the same value
    keeps_empty: bool = False  # whether an empty text is a value; if not, it stands for the default


def setting_type(type_: Any) -> SettingType:
    """Returns how a field's type is read and written; raises KeyError where no text can be read as this type."""
    if get_origin(type_) is Literal:
        choices = get_args(type_)
        names = ", ".join(choices)
        return SettingType(f"One of {names}", f"one of {names}", lambda text: choices[choices.index(text)])
    return SETTING_TYPES[type_]


def _integer(text: str) -> int:
    number = int(text)
    if not -(2**63) <= number < 2**63:  # many readers of JSON take no larger ones
        raise ValueError(text)
    return number


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):  # JSON has no word for the others
        raise ValueError(text)
    return number


def _words(text: str) -> tuple[str, ...]:
    return tuple(stripped for word in text.split(",") if (stripped := word.strip()))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(_number, _words(text)))


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in _words(text)]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ValueError(text)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


SETTING_TYPES: dict[Any, SettingType] = {
    int: SettingType("Integer", "an integer of 64 bits", _integer),
    float: SettingType("Number", "a number", _number),
    bool: SettingType(
        "True or False", "true or false", lambda text: BOOLEANS[text.lower()], lambda value: str(value).lower()
    ),
    str: SettingType("String", "a text", str, keeps_empty=True),
    Secret: SettingType("Secret", "a text", Secret, lambda _: REDACTED, keeps_empty=True),
    Duration: SettingType(
        "Duration",
        "a duration such as 250ms, 10s or 1m30s",
        lambda text: Duration.parse(text.strip()),
        lambda duration: str(duration.brief),
    ),
    tuple[str, ...]: SettingType(
        "Comma-separated list of String", "a comma-separated list", _words, ",".join, keeps_empty=True
    ),
    tuple[float, ...]: SettingType(
        "Comma-separated list of Number",
        "a comma-separated list of numbers",
        _numbers,
        lambda numbers: ",".join(repr(number).removesuffix(".0") for number in numbers),
    ),
    tuple[tuple[str, str], ...]: SettingType(
        "Comma-separated list of String=String",
        "a comma-separated list of key=value",
        _pairs,
        lambda pairs: ",".join(f"{key}={value}" for key, value in pairs),
        keeps_empty=True,
    ),
}
