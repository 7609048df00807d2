"""From an environment to a Config: environs reads each variable, cattrs builds the object.

All that is wrong is found before anything is said, so that one try shows every mistake.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import cattrs
import environs
from dotenv.parser import parse_stream

from stator.settings.declare import FILE_SUFFIX, REDACTED, Secret, Setting, iter_settings, variables_of
from stator.settings.duration import Duration
from stator.settings.types import setting_type

C = TypeVar("C")
_USER_OF_URI = re.compile(r"(?<=://).*@")


class ConfigError(Exception):
    """The environment can't be used.

    Attributes:
        problems: One line each: the variable, its value unless secret, and what was expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_env_file(path: str) -> dict[str, str]:
    """Reads ``NAME=value`` lines, as Compose and systemd take them; values are not expanded.

    Raises:
        ConfigError: The file can't be read, or holds lines of another form.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError([f"--env-file {path!r}: expected a readable file ({reason})"]) from error
    bad = [each for each in bindings if each.error or (each.key and each.value is None) or "\0" in each.original.string]
    if bad:
        raise ConfigError([f"--env-file {path!r}, line {each.original.line}: expected NAME=value" for each in bad])
    return {each.key: each.value for each in bindings if each.key is not None and each.value is not None}


def decode(
    config: type[C], prefix: str, variables: Mapping[str, str], given: Mapping[str, Any] = MappingProxyType({})
) -> C:
    """Builds a Config from variables.

    Args:
        config: The Config class.
        prefix: First part of each variable's name.
        variables: Texts by variable.
        given: Values by variable, which win over the texts.

    Raises:
        ConfigError: Some variables can't be used; the error lists all of them.
    """
    reader = _Reader(variables)
    tree: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for each in iter_settings(config, prefix):
        try:
            _put(tree, each.path, given[each.name] if each.name in given else reader.read(each))
        except _Unset:
            continue
        except _Problem as problem:
            problems[problem.name] = str(problem)
    try:
        made = _converter().structure(tree, config)
    except cattrs.BaseValidationError as error:  # a validator of somebody else's Config
        raise ConfigError([*problems.values(), *cattrs.transform_error(error, format_exception=_said)]) from error
    for each, expected in _cross_checks(made, config, prefix):
        value = given.get(each.name, variables.get(each.name))
        problems.setdefault(each.name, _line(each.name, value, expected, hidden=each.hidden))
    if problems:
        raise ConfigError(list(problems.values()))
    return made


def encode(config: object, prefix: str) -> dict[str, str]:
    """The variables that give the same Config back; secrets are not among them."""
    variables = {}
    for each in iter_settings(type(config), prefix):
        if not each.secret:
            variables[each.name] = setting_type(each.type).write(_at(config, each.path))
    return variables


def unread(config: type[Any], prefix: str, variables: Mapping[str, str]) -> list[str]:
    """Warnings of variables that have our prefix but that nothing reads, with the nearest real name."""
    known = set(variables_of(config, prefix))
    strangers = sorted(name for name in variables if name.startswith(f"{prefix}_") and name not in known)
    return [_stranger(name, known) for name in strangers]


def _stranger(name: str, known: set[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0)
    return f"{name} is not a setting and is not read; the nearest that is: {near[0]}"


class _Unset(Exception):  # noqa: N818 # not an error: the default holds
    """A variable is not set."""


class _Problem(Exception):  # noqa: N818 # becomes a line of a ConfigError
    """A variable can't be used."""

    def __init__(self, name: str, value: str | None, expected: str, *, hidden: bool = False) -> None:
        super().__init__(_line(name, value, expected, hidden=hidden))
        self.name = name


def _line(name: str, value: object, expected: str, *, hidden: bool) -> str:
    shown = "" if hidden or value is None else f"={_USER_OF_URI.sub(f'{REDACTED}@', repr(value))}"
    return f"{name}{shown}: expected {expected}"


class _Reader(environs.Env):
    """Typed reading from given variables, where environs itself knows only the process's environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__()
        self._variables = variables

    def _get_value(self, env_key: str, default: Any) -> Any:
        return self._variables.get(env_key, default)

    def read(self, setting: Setting) -> Any:
        """A setting's value.

        Raises:
            _Unset: The variable is not set, or is empty where no value can be.
            _Problem: The value can't be read or is out of bounds.
        """
        if setting.secret and self._variables.get(setting.name + FILE_SUFFIX):
            return self._read_file(setting)
        kind = setting_type(setting.type)
        text = self._variables.get(setting.name)
        if text is None or not (text or kind.keeps_empty):
            raise _Unset
        if not _is_unicode(text):
            raise _Problem(setting.name, text, "text in UTF-8", hidden=setting.hidden)
        expected = setting.check.expected if setting.check else kind.expected
        try:
            value = kind.read(self, setting.name)
            holds = setting.check is None or setting.check.holds(value)
        except (environs.EnvError, ValueError, TypeError, LookupError) as error:  # a plugin's check may parse the value
            raise _Problem(setting.name, text, expected, hidden=setting.hidden) from error
        if not holds:
            raise _Problem(setting.name, text, expected, hidden=setting.hidden)
        return value

    def _read_file(self, setting: Setting) -> Secret:
        name = setting.name + FILE_SUFFIX
        path = self._variables[name]
        if self._variables.get(setting.name):
            raise _Problem(name, path, f"only one of {setting.name} and {name} to be set")
        try:
            return Secret.from_file(Path(path))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise _Problem(name, path, f"a readable file ({reason})") from error


def _is_unicode(text: str) -> bool:
    # Bytes of the environment that are not UTF-8 come as lone surrogates, which JSON and Prometheus can't hold.
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for ready in (Duration, Secret):
        converter.register_structure_hook(ready, lambda value, _: value)
    return converter


def _said(error: BaseException, _: object) -> str:
    return f"{type(error).__name__}: {error}"


def _cross_checks(made: object, config: type[Any], prefix: str) -> Iterator[tuple[Setting, str]]:
    """What each part's ``problems()`` finds, where it has one: (field's path below the part, what was expected)."""
    settings = {each.path: each for each in iter_settings(config, prefix)}
    for path in sorted({each.path[:length] for each in settings.values() for length in range(len(each.path))}):
        find: Callable[[], Iterator[tuple[str, str]]] | None = getattr(_at(made, path), "problems", None)
        for field, expected in find() if callable(find) else ():
            yield settings[*path, *field.split(".")], expected


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _at(config: object, path: tuple[str, ...]) -> Any:
    for name in path:
        config = getattr(config, name)
    return config
