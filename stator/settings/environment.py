"""From variables to Configs: environs parses each variable, cattrs builds the objects."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import cattrs
import environs
from dotenv.parser import parse_stream

from stator.settings.declare import FILE_SUFFIX, ConfigError, Secret, Setting, iter_settings, variables_of
from stator.settings.duration import Duration
from stator.settings.masking import KnownSecrets, mask_setting, secrets_of
from stator.settings.types import setting_type

C = TypeVar("C")
_QUOTED = re.compile(r"""(["']).*\1""", re.DOTALL)


def read_env_file(path: str) -> dict[str, str]:
    """Reads ``NAME=value`` lines, as Compose and systemd take them; values are not expanded."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"--env-file {path!r}: expected a readable file ({_reason(error)})"]) from error
    bad = [each for each in bindings if each.error or (each.key and each.value is None) or "\0" in each.original.string]
    if bad:
        raise ConfigError([f"--env-file {path!r}, line {each.original.line}: expected NAME=value" for each in bad])
    return {each.key: each.value for each in bindings if each.key is not None and each.value is not None}


class Reader:
    """Builds Configs from variables, or from given values, which win; collects all mistakes for one error."""

    def __init__(self, variables: Mapping[str, str], given: Mapping[str, Any]) -> None:
        self._variables, self._given = variables, given
        self._problems: dict[str, str] = {}
        self._secrets: list[Secret] = []
        # Not cattrs.Converter, which takes ten times as long to compile code that would run once.
        self._converter = cattrs.BaseConverter()
        for parsed in (Duration, Secret):
            self._converter.register_structure_hook(parsed, lambda value, _: value)
        # No name in the process's environment begins with "=": environs finds none, and parses each call's default.
        self._env = environs.Env(prefix="=")
        self._env.add_parser("setting", _parse)
        self._env.add_parser("secret_file", _parse_file)

    def read(self, config: type[C], prefix: str) -> C:
        """Returns a Config, with defaults in place of what can't be used."""
        tree: dict[str, Any] = {}
        for each in iter_settings(config, prefix):
            value = self._given[each.name] if each.name in self._given else self._value(each)
            if value is not None:
                branch = tree
                for name in each.path[:-1]:
                    branch = branch.setdefault(name, {})
                branch[each.path[-1]] = value
        try:
            decoded = self._converter.structure(tree, config)
        except Exception as error:  # noqa: BLE001 # a rule of a plugin's own
            self._problems[prefix] = f"{type(error).__name__}: {error} @ {prefix}"
            return config()
        self._secrets += secrets_of(decoded)
        return decoded

    def _value(self, setting: Setting) -> Any:
        """Returns a setting's value; None where its variable is not set, or can't be used."""
        name, parse = setting.name, self._env.setting
        if setting.secret and self._variables.get(setting.name + FILE_SUFFIX):
            name, parse = setting.name + FILE_SUFFIX, self._env.secret_file
        text = self._variables.get(name)
        if text is None or not (text or setting_type(setting.type).keeps_empty):
            return None
        # What is no path at all may be the secret itself.
        hidden = setting.hidden and (name == setting.name or "/" not in text)
        if name != setting.name and self._variables.get(setting.name):
            expected = f"only one of {setting.name} and {name} to be set"
            self._problems[name] = _problem(name, text, expected, hidden=hidden)
            return None
        try:
            return parse(name, default=text, setting=setting)
        except environs.EnvValidationError as error:
            self._problems[name] = _problem(name, text, *error.error_messages, hidden=hidden)
            return None

    def check(self, config: object, prefix: str) -> None:
        """Collects what the ``problems()`` of a Config and of its sections find, where they have one."""
        settings = {each.path: each for each in iter_settings(type(config), prefix)}
        for path in sorted({each[:length] for each in settings for length in range(len(each))}):
            section: Any = reduce(getattr, path, config)
            find = getattr(section, "problems", None)
            for field, expected in find() if callable(find) else ():
                each = settings[*path, *field.split(".")]
                value = self._given.get(each.name, self._variables.get(each.name))
                self._problems.setdefault(each.name, _problem(each.name, value, expected, hidden=each.hidden))

    def finish(self) -> None:
        """Raises ConfigError where something was wrong."""
        if self._problems:
            raise ConfigError([*map(KnownSecrets(self._secrets).mask, self._problems.values())])


def unknown_variables(settings: Iterable[Setting], prefix: str, variables: Iterable[str]) -> list[str]:
    """Returns a warning for each variable with the prefix that no setting reads, with the nearest real name."""
    known = variables_of(settings)
    unknown = sorted(name for name in variables if name.startswith(f"{prefix}_") and name not in known)
    return [
        f"{name} is not a setting and is not read; the nearest that is: {nearest}"
        for name in unknown
        for nearest in get_close_matches(name, known, n=1, cutoff=0)
    ]


def quoted_values(settings: Iterable[Setting], variables: Mapping[str, str]) -> list[str]:
    """Returns a warning for each variable of a setting whose value is wrapped in quotes, as Docker leaves them."""
    known = variables_of(settings)
    quoted = sorted(name for name, value in variables.items() if name in known and _QUOTED.fullmatch(value))
    return [
        f"{name} begins and ends with a quote, which counts as part of the value: docker run --env-file removes none"
        for name in quoted
    ]


def _problem(name: str, value: object, expected: str, *, hidden: bool = False) -> str:
    given = "" if hidden or value is None else f"={_quoted(value)}"
    return f"{name}{given}: expected {expected}"


def _quoted(value: object) -> str:
    return repr(mask_setting(value)) if isinstance(value, str) else mask_setting(repr(value))


def _parse(text: str, setting: Setting) -> Any:
    """Returns a setting's value; raises environs.EnvError with what was expected."""
    # Bytes of the environment that are not UTF-8 come as lone surrogates, which JSON and Prometheus can't hold.
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        msg = "text in UTF-8"
        raise environs.EnvError(msg)
    type_ = setting_type(setting.type)
    with suppress(ValueError, TypeError, LookupError):  # a plugin's check may parse the value
        value = type_.parse(text)
        if setting.check is None or setting.check.holds(value):
            return value
    raise environs.EnvError((setting.check or type_).expected)


def _parse_file(path: str, setting: Setting) -> Secret:
    """Returns the secret in a file; raises environs.EnvError with what was expected."""
    try:
        return Secret.from_file(Path(path))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"a readable file ({_reason(error)})"
        raise environs.EnvError(msg) from error


def _reason(error: OSError | UnicodeDecodeError) -> str | None:
    return error.strerror if isinstance(error, OSError) else "not UTF-8"
