"""How a setting is declared: one line in a Config.

A Config is a frozen attrs class whose fields come from `setting` and, for a Config within it, from `section`.
A field's variable is the prefix, the names of the sections above it and its own, in capitals, without the underscores
within a name: ``roster.service.ip_address`` is ``STTR_ROSTER_SERVICE_IPADDRESS``.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import frozen

REDACTED = "--redacted--"
FILE_SUFFIX = "_FILE"  # ends the name of the variable that names a file which holds a secret
_KEY = "stator.setting"
C = TypeVar("C")


class StartError(Exception):
    """Something can't be built from its Config; the message says why."""


class ConfigError(Exception):
    """The environment can't be used.

    Attributes:
        problems: One line each: the variable, its value unless secret, and what was expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Secret:
    """A text that no dump, log or repr contains. One from a file is read again for each use."""

    __slots__ = ("_path", "_text")

    def __init__(self, text: str = "", path: Path | None = None) -> None:
        self._text, self._path = text, path

    @classmethod
    def from_file(cls, path: Path) -> "Secret":
        """Returns the secret in a file that may change later, without the white space around it.

        Raises:
            OSError: The file can't be read.
            UnicodeDecodeError: The file is not UTF-8.
        """
        return cls(path.read_text("utf-8").strip(), path)

    def reveal(self) -> str:
        """Returns the current text; the last known one while its file is missing or empty."""
        if self._path is not None:
            with suppress(OSError, UnicodeDecodeError):
                self._text = self._path.read_text("utf-8").strip() or self._text
        return self._text

    @property
    def latest(self) -> str:
        """The text as it was last read."""
        return self._text

    @property
    def is_from_file(self) -> bool:
        """Whether the text may change."""
        return self._path is not None

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(Secret)

    def __repr__(self) -> str:
        return REDACTED if self else ""


@frozen(eq=False, repr=False)
class Constraint:
    """A bound on a setting's value, and its description: ``an integer from 0 to 65535``."""

    expected: str
    holds: Callable[[Any], bool]

    def __call__(self, _config: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        """Validates the value in a Config that code constructs; raises ValueError where it is out of bounds."""
        if not self.holds(value):
            has_secrets = options_of(attribute).show is not None
            msg = f"{attribute.name}{'' if has_secrets else f'={value!r}'}: expected {self.expected}"
            raise ValueError(msg)


@frozen(eq=False, repr=False)
class FieldOptions:
    """The arguments with which a field was declared."""

    desc: str | Callable[[], str] = ""
    env: str | None = None
    check: Constraint | None = None
    show: Callable[[Any, Any], Any] | None = None
    is_section: bool = False


@frozen(eq=False, repr=False)
class Setting:
    """One variable that a Config reads."""

    name: str  # of the variable: STTR_SERVER_PORT
    path: tuple[str, ...]  # field names from the root Config down: ("server", "port")
    type: Any
    default: Any
    desc: str
    check: Constraint | None
    hidden: bool  # an error must leave out the value, since it is secret or a part of it may be

    @property
    def secret(self) -> bool:
        """Whether the whole value is secret: it can come from a file, and is never written anywhere."""
        return self.type is Secret

    @property
    def variables(self) -> tuple[str, ...]:
        """All names under which it is read."""
        return (self.name, self.name + FILE_SUFFIX) if self.secret else (self.name,)


def setting(
    default: Any,
    *,
    desc: str | Callable[[], str],
    env: str | None = None,
    check: Constraint | None = None,
    show: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Declares one setting.

    Args:
        default: Value where the variable is not set.
        desc: What it is for, for ``-h`` and the docs; a function where that is known only later.
        env: Last part of the variable's name, where the field's name doesn't give it.
        check: Bound on the value.
        show: Returns the value without its secrets, for dumps, from the Config and the value.
    """
    # What is secret depends on the whole Config, and attrs gives a field's repr the value alone.
    redacted = (lambda _: REDACTED) if show else True
    return attrs.field(
        default=default, validator=check, repr=redacted, metadata={_KEY: FieldOptions(desc, env, check, show)}
    )


def section(config: Callable[[], C], *, env: str | None = None) -> C:
    """Declares a Config within another; ``env=""`` leaves the section out of its variables' names."""
    field: C = attrs.field(factory=config, metadata={_KEY: FieldOptions(env=env, is_section=True)})
    return field


def options_of(attribute: "attrs.Attribute[Any]") -> FieldOptions:
    """Returns how a field was declared; raises KeyError for one from neither `setting` nor `section`."""
    options: FieldOptions = attribute.metadata[_KEY]
    return options


def declared_fields(config: type[Any]) -> Iterator["attrs.Attribute[Any]"]:
    """Yields the fields of a Config that come from `setting` or `section`."""
    return (attribute for attribute in attrs.fields(config) if _KEY in attribute.metadata)


def variable_part(attribute: "attrs.Attribute[Any]") -> str:
    """Returns what a field adds to its variables' names: ``IPADDRESS``."""
    env = options_of(attribute).env
    return attribute.name.replace("_", "").upper() if env is None else env


def iter_settings(config: type[Any], prefix: str, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Yields all settings of a Config class, in the order of declaration."""
    for attribute in declared_fields(config):
        options, part, here = options_of(attribute), variable_part(attribute), (*path, attribute.name)
        name = f"{prefix}_{part}" if part else prefix
        type_: Any = attribute.type
        if options.is_section:
            yield from iter_settings(type_, name, here)
        else:
            desc = options.desc() if callable(options.desc) else options.desc
            hidden = type_ is Secret or options.show is not None
            yield Setting(name, here, type_, attribute.default, desc, options.check, hidden)


def variables_of(settings: Iterable[Setting]) -> set[str]:
    """Returns the names of all variables that settings read, with those of files that hold secrets."""
    return {name for each in settings for name in each.variables}


def at_least(low: int) -> Constraint:
    """Returns the bound of a count."""
    return Constraint(f"an integer of {low} or more", lambda value: value >= low)


def between(low: int, high: int) -> Constraint:
    """Returns the bounds of an integer, both included."""
    return Constraint(f"an integer from {low} to {high}", lambda value: low <= value <= high)


positive = Constraint("a duration longer than 0s, such as 250ms, 10s or 1m30s", lambda value: value > 0)
