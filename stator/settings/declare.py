"""How a setting is declared: one line in the Config of the part that it is for.

A Config is a frozen attrs class whose fields come from `setting` and, for the Config of a part within, `section`.
A field's variable is the prefix, the names of the parts above it and its own, in capitals without underscores
within a name: ``roster.service.ip_address`` is ``STTR_ROSTER_SERVICE_IPADDRESS``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import frozen

REDACTED = "--redacted--"
# Ends the variable that names a file which holds a secret.
FILE_SUFFIX = "_FILE"
_KEY = "stator.setting"
C = TypeVar("C")


class StartError(Exception):
    """A part can't be made from its Config; the message says why."""


class Secret:
    """A text that is never shown, and is read anew for each use where it comes from a file."""

    __slots__ = ("_path", "_text")

    def __init__(self, text: str = "", path: Path | None = None) -> None:
        self._text, self._path = text, path

    @classmethod
    def from_file(cls, path: Path) -> "Secret":
        """Reads a secret, without the white space around it, from a file that may change later.

        Raises:
            OSError: The file can't be read.
            UnicodeDecodeError: The file is not UTF-8.
        """
        return cls(path.read_text("utf-8").strip(), path)

    def reveal(self) -> str:
        """The text as it is now; the last that there was where the file is gone, or empty, as while it's written."""
        if self._path is not None:
            try:
                self._text = self._path.read_text("utf-8").strip() or self._text
            except (OSError, UnicodeDecodeError):
                return self._text
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(Secret)

    def __repr__(self) -> str:
        return REDACTED if self else ""


@frozen
class Constraint:
    """A bound on a setting's value, and how to say it: ``an integer from 0 to 65535``."""

    expected: str
    holds: Callable[[Any], bool]

    def __call__(self, _config: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        """Holds the bound for a Config made in code too, as attrs asks its validators.

        Raises:
            ValueError: The value is out of bounds.
        """
        if not self.holds(value):
            shown = "" if declared(attribute).show else f"={value!r}"
            msg = f"{attribute.name}{shown}: expected {self.expected}"
            raise ValueError(msg)


@frozen
class FieldOptions:
    """What a field says of itself."""

    desc: str = ""
    env: str | None = None
    check: Constraint | None = None
    show: Callable[[Any, Any], Any] | None = None
    is_part: bool = False


@frozen
class Setting:
    """One variable that a Config reads.

    Attributes:
        name: The variable: ``STTR_SERVER_PORT``.
        path: Field names from the root Config down: ``("server", "port")``.
        type: The field's type.
        default: The value where the variable is not set.
        desc: What it is for.
        check: The bound on its value, if any.
        holds_secrets: Whether some part of its value may be secret.
    """

    name: str
    path: tuple[str, ...]
    type: Any
    default: Any
    desc: str
    check: Constraint | None
    holds_secrets: bool

    @property
    def secret(self) -> bool:
        """Whether the whole value is one, so that it can come from a file and is never written anywhere."""
        return self.type is Secret

    @property
    def hidden(self) -> bool:
        """Whether an error must not show the value."""
        return self.secret or self.holds_secrets


def setting(
    default: Any,
    *,
    desc: str,
    env: str | None = None,
    check: Constraint | None = None,
    show: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Declares one setting.

    Args:
        default: Value where the variable is not set.
        desc: What it is for, for ``-h`` and the README.
        env: Last part of the variable's name, where the field's name doesn't give it.
        check: Bound on the value.
        show: Gives the value to show in dumps from the Config and the value, where they hold secrets.
    """
    # What to hide depends on the whole Config, which a field's repr does not know: it hides everything.
    shown = (lambda _: REDACTED) if show else True
    return attrs.field(
        default=default, validator=check, repr=shown, metadata={_KEY: FieldOptions(desc, env, check, show)}
    )


def section(config: Callable[[], C], *, env: str | None = None) -> C:
    """Declares the Config of a part within; ``env=""`` leaves the part out of its variables' names."""
    made: C = attrs.field(factory=config, metadata={_KEY: FieldOptions(env=env, is_part=True)})
    return made


def is_declared(attribute: "attrs.Attribute[Any]") -> bool:
    """Whether a field comes from `setting` or `section`."""
    return _KEY in attribute.metadata


def declared(attribute: "attrs.Attribute[Any]") -> FieldOptions:
    """What a Config's field says of itself."""
    about: FieldOptions = attribute.metadata[_KEY]
    return about


def iter_settings(config: type[Any], prefix: str, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """All settings of a Config class, in the order of declaration."""
    for attribute in attrs.fields(config):
        about = declared(attribute)
        own = attribute.name.replace("_", "").upper() if about.env is None else about.env
        name = f"{prefix}_{own}" if own else prefix
        if about.is_part:
            yield from iter_settings(attribute.type, name, (*path, attribute.name))
        else:
            here = (*path, attribute.name)
            hides = about.show is not None
            yield Setting(name, here, attribute.type, attribute.default, about.desc, about.check, hides)


def variables_of(config: type[Any], prefix: str) -> Iterator[str]:
    """All variables that a Config class reads, those that name files of secrets among them."""
    for each in iter_settings(config, prefix):
        yield each.name
        if each.secret:
            yield each.name + FILE_SUFFIX


def at_least(low: int) -> Constraint:
    """The bound of a count."""
    return Constraint(f"an integer of {low} or more", lambda value: value >= low)


def between(low: int, high: int) -> Constraint:
    """The bounds of an integer, both included."""
    return Constraint(f"an integer from {low} to {high}", lambda value: low <= value <= high)


positive = Constraint("a duration longer than 0s, such as 250ms, 10s or 1m30s", lambda value: value > 0)
