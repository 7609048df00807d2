"""The command `ctl`: lists the Stators of this host, says what state one is in, and controls it.

It needs no server's address: it looks into /proc, reads and writes memory that the service shares, and sends signals.
"""

import argparse
import json
import os
import pwd
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from stator.control.finding import Holder, Service, service_of, services
from stator.control.showing import LEVELS, details, level_of, listing, summary
from stator.control.state import StateError, read_state, write_level

FAILED, BAD_USAGE = 1, 2
ACTIONS = ("status", "level", "stacks", "reload")
ABOUT = """\
Usage: stator ctl [--json] [PID [status | level [LEVEL] | stacks | reload]]

  without a PID   list the Stators of this host that this user may look into
  PID             any process of a service: its main process, its server's, or a worker
  status          show what state it is in
  level           turn the debug level on or off; LEVEL: debug, info, warning, error
  stacks          write the stack of each thread and task of all its processes into its log
  reload          read files again
  --json          show the list, or the state, as JSON
"""


class CtlError(Exception):
    """What was asked for can't be done; the message says why."""


def run(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit status."""
    flags = _flags(argv)
    try:
        if flags.help:
            _write([ABOUT.rstrip("\n")])
        elif flags.pid is None:
            _list(as_json=flags.json)
        else:
            service = _find(flags.pid)
            match flags.action:
                case "status":
                    _write([json.dumps(summary(service), indent=2)] if flags.json else details(service))
                case "level":
                    _set_level(service, flags.level)
                case "stacks":
                    _ask_for_stacks(service)
                case "reload":
                    _reload(service)
    except CtlError as error:
        _complain(str(error))
        return FAILED
    except BrokenPipeError:
        return FAILED
    return 0


def _flags(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="stator ctl", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("pid", nargs="?", type=_pid)
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="status")
    parser.add_argument("level", nargs="?", choices=tuple(LEVELS))
    flags = parser.parse_args(argv)
    if flags.level and flags.action != "level":
        parser.error(f"{flags.action} takes no {flags.level!r}")
    if flags.json and flags.action != "status":
        parser.error(f"{flags.action} has no JSON")
    return flags


def _pid(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        msg = f"expected a process id, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _complain(f"{message.removeprefix('argument pid: ')}; stator ctl -h shows what there is")
        raise SystemExit(BAD_USAGE)


def _find(pid: int) -> Service:
    try:
        service = service_of(pid)
    except PermissionError:
        own = Path(f"/proc/{pid}").stat().st_uid == os.geteuid()
        msg = f"can't look at process {pid}: " + (
            "the kernel denies it" if own else f"it belongs to user {_owner(pid)}"
        )
        raise CtlError(msg) from None
    except ProcessLookupError:
        msg = f"there is no process {pid}"
        raise CtlError(msg) from None
    except (OSError, StateError) as error:
        msg = f"can't look at process {pid}: {error}"
        raise CtlError(msg) from None
    if service is None:
        msg = f"process {pid} is no Stator; stator ctl lists those that there are"
        raise CtlError(msg)
    return service


def _owner(pid: int) -> str:
    try:
        user = Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return "unknown"
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return str(user)


def _list(*, as_json: bool) -> None:
    found = sorted(services(), key=lambda service: service.main)
    if as_json:
        _write([json.dumps([summary(each) for each in found], indent=2)])
    elif found:
        _write(listing(found))
    else:
        _complain("no Stator runs here that this user may look into")


def _set_level(service: Service, name: str | None) -> None:
    number = service.signal("level")
    processes = _processes(service, number, "the level of its log can't be changed")
    configured = LEVELS.get(service.text("level"), 0)
    level = LEVELS[name] if name else _toggled(service.level, configured)
    # The one byte is for all processes, and for those that start later.
    fd = os.open(service.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        read_state(fd)  # its process may have put another file in its place since
        write_level(fd, level)
    except StateError as error:
        msg = f"can't change the level of {service.text('service')}: {error}"
        raise CtlError(msg) from None
    finally:
        os.close(fd)
    _send(processes, number)
    service.level = level
    _write([f"{service.text('service')}: the log's level is {level_of(service)}"])


def _toggled(changed: int, configured: int) -> int:
    if (changed or configured) != LEVELS["debug"]:
        return LEVELS["debug"]
    return LEVELS["info"] if configured == LEVELS["debug"] else 0


def _ask_for_stacks(service: Service) -> None:
    number = service.signal("stacks")
    processes = _processes(service, number, "its stacks can't be had")
    _send(processes, number)
    of = "all its processes" if not service.is_embedded else f"{_plural(len(processes), 'process', 'processes')}"
    _write([f"{service.text('service')}: asked for the stacks of {of}; they come in its log"])


def _reload(service: Service) -> None:
    if service.is_embedded:
        msg = f"{service.text('service')} is part of an application, whose server has its own reload; see its docs"
        raise CtlError(msg)
    # Whatever the state says, no process gets a signal that does not have it open.
    main = next((each for each in service.holders if each.inner == service.state.get("pid")), None)
    if main is None:
        msg = f"{service.text('service')}: its main process is gone"
        raise CtlError(msg)
    if main.ignores(signal.SIGHUP):
        msg = f"process {service.main} ignores SIGHUP, as one that nohup has started"
        raise CtlError(msg)
    if child := service.child():
        with suppress(OSError):
            program = Holder.of(child)
            if not (program.catches(signal.SIGHUP) or program.ignores(signal.SIGHUP)):
                msg = f"process {child}, the wrapped program, gets SIGHUP too: it has no handler, and would end"
                raise CtlError(msg)
    _send([main.pid], signal.SIGHUP)
    _write([f"{service.text('service')}: reads its files again; its log says which have changed"])


def _processes(service: Service, number: int, otherwise: str) -> list[int]:
    """Returns the processes to which a signal is sent: the main one, or all of an application that have a handler."""
    found = [each.pid for each in service.holders if number and each.catches(number)]
    if not service.is_embedded:
        found = [pid for pid in found if pid == service.main]
    if not found:
        msg = f"{service.text('service')}: {otherwise}: no process of it has a handler for that"
        raise CtlError(msg)
    return found


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            try:
                os.kill(pid, number)
            except PermissionError:
                msg = f"may not send a signal to process {pid}: it belongs to user {_owner(pid)}"
                raise CtlError(msg) from None


def _plural(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _write(lines: Iterable[str]) -> None:
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


def _complain(line: str) -> None:
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"stator: {line}\n")
