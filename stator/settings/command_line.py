"""The program's flags, and the loading of its settings."""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from attrs import frozen
from msgspec import json

from stator.settings.declare import ConfigError, Setting
from stator.settings.table import rows, table

C = TypeVar("C")
BAD_CONFIG = 2
FAILED = 1
FLAGS = """\
Flags:
  -h, --help           show this and exit
  -c, --conf           show the loaded configuration as JSON and exit
      --check          say what is wrong with the configuration, if anything, and exit
  -e, --env-file FILE  read variables from FILE too; those of the environment win
  -V, --version        show the version and exit
      -- COMMAND ...   run a program, and make it observable

Commands:
  ctl [PID ...]        look at services that run here, or control one; ctl -h says how
"""
SETTINGS = "The following environment variables are available for configuration:"


class Environment(Protocol[C]):
    """The variables of a start, and the settings that read them."""

    def settings(self) -> Sequence[Setting]:
        """Returns all settings, in the order of ``-h``."""

    def check_command(self, config: C) -> None:
        """Raises ConfigError if the root Config can't be that of a wrapped program."""

    def decode(self) -> C:
        """Builds the root Config; raises ConfigError."""

    def dump(self, config: C) -> dict[str, Any]:
        """Returns the root Config as plain data without secrets."""


@frozen(eq=False, repr=False)
class Trial:
    """What fails when the parts are tried: what must be mended, and what may be well elsewhere or later."""

    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()


@frozen(eq=False, repr=False)
class Loaded(Generic[C]):
    """The settings of a start."""

    config: C
    redacted: dict[str, Any]  # the same as plain data without secrets
    command: tuple[str, ...]  # of a program to be run; empty: none
    warnings: list[str]  # a sentence for each variable that no setting reads


def load(
    environment: Callable[[str, Mapping[str, str]], Environment[C]],
    *,
    prefix: str,
    about: str,
    version: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    trial: Callable[[C], Trial] = lambda _: Trial(),
) -> Loaded[C]:
    """Parses flags and decodes the environment, which wins over ``--env-file``; ``--check`` makes the trial too."""
    # Raises SystemExit: a flag was answered (0; 1 where stdout can't be written), or something given is wrong (2).
    flags = _flags(argv)
    if flags.version:
        _end(f"stator {version}\n".encode())
    warnings: list[str] = []
    try:
        variables = _variables(flags, environ)
        loaded = environment(prefix, variables)
        if flags.help:
            _end(f"{about}\n\n{FLAGS}\n{SETTINGS}\n\n{table(rows(loaded.settings()))}\n".encode())
        _check_working_folder()
        from stator.settings.environment import quoted_values, unknown_variables

        settings = loaded.settings()
        warnings = unknown_variables(settings, prefix, variables) + quoted_values(settings, variables)
        config = loaded.decode()
        if flags.command:
            loaded.check_command(config)
    except ConfigError as error:
        _complain([*error.problems, *(f"warning: {each}" for each in warnings)])
        raise SystemExit(BAD_CONFIG) from None
    redacted = {"version": version, **loaded.dump(config)}
    found = trial(config) if flags.check else Trial()
    if flags.check or flags.conf:
        _complain([*found.problems, *(f"warning: {each}" for each in (*warnings, *found.warnings))])
        if found.problems:
            raise SystemExit(BAD_CONFIG)
        _end(json.format(json.encode(redacted), indent=2) + b"\n" if flags.conf else b"")
    return Loaded(config, redacted, flags.command, warnings)


def is_question(argv: Sequence[str]) -> bool:
    """Returns whether a flag is to be answered, after which the program ends."""
    flags = _flags(argv)
    return bool(flags.help or flags.version or flags.conf or flags.check)


def _flags(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="stator", add_help=False, allow_abbrev=False)
    for names in (("-h", "--help"), ("-V", "--version"), ("-c", "--conf"), ("--check",)):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("-e", "--env-file", metavar="FILE")
    own, dashes, command = _split_at(argv, "--")
    flags, unknown = parser.parse_known_args(own)
    flags.command = tuple(command)
    if dashes and not command:
        parser.error("no program behind --")
    if unknown and not (flags.help or flags.version):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return flags


def _split_at(words: Sequence[str], separator: str) -> tuple[Sequence[str], bool, Sequence[str]]:
    """Returns the words before the first separator, whether there is one, and the words behind it."""
    if separator not in words:
        return words, False, ()
    at = words.index(separator)
    return words[:at], True, words[at + 1 :]


def _variables(flags: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Returns all variables; ``-h`` goes without a file that can't be read."""
    if flags.env_file is None:
        return environ
    from stator.settings.environment import read_env_file

    try:
        return read_env_file(flags.env_file) | dict(environ)
    except ConfigError:
        if flags.help:
            return environ
        raise


def _check_working_folder() -> None:
    """Ends a start in a folder that was removed: gunicorn and relative paths need one."""
    try:
        Path.cwd()
    except OSError as error:
        _complain([f"the working folder can't be used ({error.strerror}): start Stator in one that exists"])
        raise SystemExit(FAILED) from None


class _Parser(argparse.ArgumentParser):
    """Reports errors as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        _complain([f"{message}; -h shows what there is"])
        raise SystemExit(BAD_CONFIG)


def _end(output: bytes) -> NoReturn:
    try:
        if output:
            # Not through sys.stdout: that is None where it's closed, and reports a full disk only at exit.
            with open(1, "wb", closefd=False) as stdout:
                stdout.write(output)
    except OSError as error:
        _complain([f"can't write to stdout: {error.strerror}"])
        raise SystemExit(FAILED) from None
    raise SystemExit(0)


def _complain(lines: Iterable[str]) -> None:
    with suppress(OSError, AttributeError):  # stderr may be closed; the exit status says it too
        sys.stderr.writelines(f"stator: {line}\n" for line in lines)
