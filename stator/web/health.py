"""Health checks that settings name: of a port, of a URL, of a command, or of a function."""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from shlex import split
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from attrs import frozen

from stator.client.errors import ClientError
from stator.client.probe import USER_AGENT
from stator.log.render import TRUNCATED
from stator.plugins.loading import find_attribute
from stator.settings.declare import StartError, positive, setting
from stator.settings.duration import Duration
from stator.settings.masking import mask_target, mask_uris

if TYPE_CHECKING:
    import subprocess

Check: TypeAlias = Callable[[], object]
"""Passes unless it raises or returns False; an awaitable that it returns is awaited."""

TARGETS = "tcp://host:port, http://host:port/path, https://..., exec:command or module:function"
MAX_OUTPUT = 200  # characters of a command's output in its error
PIPE = 1 << 16  # bytes that a pipe holds, and of a command's output that are kept


class CheckError(Exception):
    """A check fails without an error of its own; the message says all."""


def _show(_config: object, checks: tuple[tuple[str, str], ...]) -> list[list[str]]:
    return [[name, mask_target(target)] for name, target in checks]


@frozen(eq=False, repr=False)
class MonitorConfig:
    """What is checked when /monitor is asked."""

    checks: tuple[tuple[str, str], ...] = setting(
        (), desc=f"health checks, name=target; a target is {TARGETS}", show=_show
    )
    check_timeout: Duration = setting(Duration.parse("2s"), desc="longest time for a health check", check=positive)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields which checks have no target, or the name of another."""
        names = [name for name, _ in self.checks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            yield "checks", f"different names, but there are two called {', '.join(twice)}"
        if wrong := [name for name, target in self.checks if not is_target(target)]:
            yield "checks", f"a comma-separated list of name=target; {', '.join(wrong)} is none of {TARGETS}"

    def build(self, environ: Callable[[], Mapping[str, str]]) -> dict[str, Check]:
        """Returns the checks by name; raises StartError if a function can't be loaded.

        `environ` returns the environment of commands.
        """
        return {name: build_check(target, self.check_timeout.seconds, environ) for name, target in self.checks}


def is_target(text: str) -> bool:
    """Returns whether a check can be built of a text."""
    return _kind(text) is not None


def build_check(target: str, timeout: float, environ: Callable[[], Mapping[str, str]]) -> Check:
    """Returns the check of a target, which takes `timeout` seconds at most; raises StartError if it can't be loaded."""
    kind = _kind(target)
    if kind == "tcp":
        url = urlsplit(target)
        return partial(connect, url.hostname or "", url.port or 0, timeout)
    if kind == "http":
        return partial(get, target, timeout)
    if kind == "exec":
        return partial(execute, split(target.removeprefix("exec:")), timeout, environ)
    return load_function(target)


def connect(host: str, port: int, timeout: float) -> None:
    """Connects to a port; raises OSError where nothing accepts within `timeout` seconds."""
    socket.create_connection((host, port), timeout).close()


def get(url: str, timeout: float) -> None:
    """Asks for a URL; raises CheckError unless the answer's status is 2xx."""
    from stator.client.client import Client, Request
    from stator.client.transport import tls_context

    uri = urlsplit(url)
    with closing(Client(uri, tls_context, timeout=timeout, timeout_short=timeout)) as client:
        try:
            response = client.send(Request("GET", uri, {"User-Agent": USER_AGENT, "Connection": "close"}))
        except ClientError as error:
            raise CheckError(str(error)) from error
    if response.status // 100 != 2:
        msg = f"{mask_uris(url)} answered with status {response.status}"
        raise CheckError(msg)


def execute(command: list[str], timeout: float, environ: Callable[[], Mapping[str, str]]) -> None:
    """Runs a command; raises CheckError unless it exits with 0. After `timeout` seconds it is killed.

    With it all are killed that it has started. It is in our process group, which ends with the service.
    """
    import subprocess

    import psutil

    try:
        process = subprocess.Popen(  # noqa: S603 # it is for the one who runs us to name it
            command,
            env=dict(environ()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        msg = f"{command[0]} can't be started: {error.strerror}"
        raise CheckError(msg) from error
    with process:
        output = _output(process, time.monotonic() + timeout)
        if output is None:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                for each in (root, *root.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        each.kill()
            msg = f"{command[0]} was killed: it did not end within {timeout:g} s"
            raise CheckError(msg)
    if process.returncode:
        text = " ".join(output.decode(errors="replace").split())
        text = text if len(text) <= MAX_OUTPUT else text[:MAX_OUTPUT] + TRUNCATED
        msg = f"{command[0]} exited with {process.returncode}{': ' if text else ''}{text}"
        raise CheckError(msg)


def _output(process: "subprocess.Popen[bytes]", deadline: float) -> bytes | None:
    """Returns the beginning of what a command writes until it ends; None if it does not end before a monotonic time.

    It is not waited for the end of its output, which what it leaves in the background may hold open.
    """
    import selectors

    output, has_ended = b"", False
    end, written = os.pidfd_open(process.pid), process.stdout.fileno() if process.stdout else -1
    os.set_blocking(written, False)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(end, selectors.EVENT_READ)
            selector.register(written, selectors.EVENT_READ)
            while not has_ended:
                ready = {key.fd for key, _ in selector.select(max(0.0, deadline - time.monotonic()))}
                has_ended = end in ready
                if not has_ended and time.monotonic() >= deadline:
                    return None
                with suppress(BlockingIOError):
                    if data := os.read(written, PIPE):
                        output = (output + data)[:PIPE]
                    elif written in ready and not has_ended:
                        selector.unregister(written)
    finally:
        os.close(end)
    return output


def load_function(spec: str) -> Check:
    """Returns the function that a ``module:function`` names; the module may lie in the working folder.

    Raises:
        StartError: There is none, or its module can't be imported.
    """
    module_name, _, name = spec.partition(":")
    found = find_attribute(spec, f"the health check {spec}")
    if not callable(found):
        msg = f"the health check {spec} can't be found: {module_name} has no function {name!r}"
        raise StartError(msg)
    check: Check = found
    return check


def _kind(target: str) -> str | None:
    """Returns how a target is checked: tcp, http, exec or call; None where it can't be."""
    try:
        url = urlsplit(target)
        if url.scheme == "tcp":
            return "tcp" if url.hostname and url.port and not (url.path or "@" in url.netloc) else None
        if url.scheme in ("http", "https"):
            return "http" if url.hostname and url.port != 0 and "@" not in url.netloc else None
        if url.scheme == "exec":
            return "exec" if split(target.removeprefix("exec:")) else None
    except ValueError:
        return None
    module, _, name = target.partition(":")
    return "call" if name.isidentifier() and all(part.isidentifier() for part in module.split(".")) else None
