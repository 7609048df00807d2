"""Environment in, objects out.

What ``-h`` and ``-V`` do not need is imported only when a Config is really read: they answer in a blink.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, NoReturn, TypeVar

from attrs import frozen

from stator.settings.table import rows, table

C = TypeVar("C", bound=Any)
BAD_CONFIG = 2
FAILED = 1


@frozen
class Loaded(Generic[C]):
    """What a start is made of.

    Attributes:
        config: The Config that the environment gave.
        shown: The same as plain data, secrets hidden.
        warnings: What the environment holds that nothing reads, a sentence each.
    """

    config: C
    shown: dict[str, Any]
    warnings: list[str]

    def warn(self, log: Any) -> None:
        """Tells the warnings to a log."""
        for warning in self.warnings:
            log.warning(warning)


def load(
    config: type[C],
    *,
    prefix: str,
    about: str,
    version: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    extend: Callable[[str, Mapping[str, str]], type[C]] | None = None,
) -> Loaded[C]:
    """Reads flags and environment; answers the flags that end the program at once.

    Args:
        config: The root Config class.
        prefix: First part of each variable's name.
        about: One line on what the program does.
        version: The program's version.
        argv: Command line, without the program's name.
        environ: The process's environment; it wins over ``--env-file``.
        extend: Gives the Config class to use instead for a prefix and variables, where these tell of further settings.

    Raises:
        SystemExit: A flag was answered (status 0; 1 where stdout takes no answer), or the command line or environment
            is wrong (status 2).
    """
    parser = _parser(version)
    flags, strangers = parser.parse_known_args(argv)
    if flags.help:
        if extend is not None:
            config = extend(prefix, _readable(flags.env_file, environ))
        _answer(f"{about}\n\n{_FLAGS}\n{_SETTINGS}\n\n{table(rows(config, prefix))}\n".encode())
        raise SystemExit(0)
    if strangers:
        parser.error(f"unrecognized arguments: {' '.join(strangers)}")

    from stator.settings.dump import dump
    from stator.settings.environment import ConfigError, decode, unread  # slow to import

    warnings: list[str] = []
    try:
        variables = _variables(flags.env_file, environ)
        if extend is not None:
            config = extend(prefix, variables)
        warnings = unread(config, prefix, variables)
        launched = decode(config, prefix, variables)
    except ConfigError as error:
        _tell([*error.problems, *_as_told(warnings)])
        raise SystemExit(BAD_CONFIG) from None
    shown = {"version": version, **dump(launched)}
    if flags.check or flags.conf:
        _tell(_as_told(warnings))
        _end(shown if flags.conf else None)
    return Loaded(launched, shown, warnings)


def _variables(env_file: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """All variables.

    Raises:
        ConfigError: The file can't be read.
    """
    if env_file is None:
        return dict(environ)
    from stator.settings.environment import read_env_file  # slow to import

    return read_env_file(env_file) | dict(environ)


def _readable(env_file: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """All variables that can be read: who asks for help gets it, whatever is wrong."""
    if env_file is None:
        return dict(environ)
    from stator.settings.environment import ConfigError  # slow to import

    try:
        return _variables(env_file, environ)
    except ConfigError:
        return dict(environ)


def _parser(version: str) -> argparse.ArgumentParser:
    parser = _Parser(prog="stator", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-V", "--version", action="version", version=f"stator {version}")
    parser.add_argument("-c", "--conf", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("-e", "--env-file", metavar="FILE")
    return parser


_FLAGS = """\
Flags:
  -h, --help           show this and exit
  -c, --conf           show the loaded configuration as JSON and exit
      --check          say what is wrong with the configuration, if anything, and exit
  -e, --env-file FILE  read variables from FILE too; those of the environment win
  -V, --version        show the version and exit
"""
_SETTINGS = "The following environment variables are available for configuration:"


class _Parser(argparse.ArgumentParser):
    """Argparse for the flags, with errors and answers as ours are."""

    def error(self, message: str) -> NoReturn:
        _tell([f"{message}; -h shows what there is"])
        raise SystemExit(BAD_CONFIG)

    def _print_message(self, message: str, _file: object = None) -> None:
        _answer(message.encode())


def _end(shown: dict[str, Any] | None) -> NoReturn:
    if shown is not None:
        import orjson

        _answer(orjson.dumps(shown, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    raise SystemExit(0)


def _answer(text: bytes) -> None:
    # Not through sys.stdout: that is None where it's closed, and complains of a full disk when all is over.
    try:
        with open(1, "wb", closefd=False) as stdout:
            stdout.write(text)
    except OSError as error:
        _tell([f"can't write to stdout: {error.strerror}"])
        raise SystemExit(FAILED) from None


def _as_told(warnings: Iterable[str]) -> Iterable[str]:
    return (f"warning: {warning}" for warning in warnings)


def _tell(lines: Iterable[str]) -> None:
    with suppress(OSError, AttributeError):  # stderr may be closed; the exit status tells all the same
        sys.stderr.writelines(f"stator: {line}\n" for line in lines)
