"""Real programs that know nothing of Stator, to wrap it around them, and clients that speak to them."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple, Protocol

from tests.integration.fetch import PEERS
from tests.integration.programs import program_path

NOBODY = 65534
AS_NOBODY = (
    f"import os, sys; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); os.execv(sys.argv[1], sys.argv[1:])"
)
SHOP = """
def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]

async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
# A server in the background, which the script ends before itself, with a status of its own.
SCRIPT = """
"$0" -m http.server --protocol HTTP/1.1 --bind 127.0.0.1 "$1" &
trap 'kill $!; wait $!; exit 7' TERM
while :; do wait; done
"""
NGINX = """
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }}
}}
"""


class Client(Protocol):
    """A connection that is kept: asks again and again, raises OSError or HTTPException where that fails."""

    def ask(self) -> None:
        """Asks once, and waits for the answer."""

    def close(self) -> None:
        """Ends the connection."""


class Http:
    """A keep-alive client of HTTP."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self) -> None:
        self._connection.request("GET", "/")
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            msg = f"status {answer.status}"
            raise HTTPException(msg)

    def close(self) -> None:
        self._connection.close()


class _Socket:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            msg = "the server hung up"
            raise ConnectionError(msg)
        return data


class Redis(_Socket):
    """A client of Redis, https://redis.io/docs/latest/develop/reference/protocol-spec/."""

    def ask(self) -> None:
        self._socket.sendall(b"PING\r\n")
        if (answer := self._read(7)) != b"+PONG\r\n":
            raise ConnectionError(answer)


class Postgres(_Socket):
    """A client of PostgreSQL, https://www.postgresql.org/docs/current/protocol-flow.html."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        startup = struct.pack("!i", 196608) + b"user\0shop\0database\0postgres\0\0"
        self._socket.sendall(struct.pack("!i", len(startup) + 4) + startup)
        self._until_ready()

    def ask(self) -> None:
        query = b"SELECT 6 * 7\0"
        self._socket.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        rows = [body for kind, body in self._until_ready() if kind == b"D"]
        if [row[-2:] for row in rows] != [b"42"]:
            raise ConnectionError(rows)

    def _until_ready(self) -> list[tuple[bytes, bytes]]:
        messages: list[tuple[bytes, bytes]] = []
        while not messages or messages[-1][0] != b"Z":
            kind, length = self._read(1), struct.unpack("!i", self._read(4))[0]
            messages.append((kind, self._read(length - 4)))
            if kind == b"E":
                raise ConnectionError(messages[-1][1])
        return messages


class Started(NamedTuple):
    """What to start."""

    command: Sequence[str | Path]
    env: Mapping[str, str] = {}


class Child(NamedTuple):
    """A program: how it is started at a port, what it is asked with, and how it ends.

    Attributes:
        prepare: Makes what it needs in a folder.
        status: Its exit status after the stop signal, 128 and the signal where that ends it.
        processes: How many it has, at least.
    """

    prepare: Callable[[int, Path, ExitStack], Started]
    client: Callable[[int], Client] = Http
    status: int = 0
    stop_signal: str = "TERM"
    processes: int = 1


def _nginx(port: int, folder: Path, _stack: ExitStack) -> Started:
    (folder / "nginx.conf").write_text(NGINX.format(port=port))
    return Started([program_path("nginx"), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"])


def _redis(port: int, folder: Path, _stack: ExitStack) -> Started:
    options = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    return Started([program_path("redis"), *options], PEERS["redis"].environ())


def _postgresql(port: int, _folder: Path, stack: ExitStack) -> Started:
    # Its user has to reach the folder, whatever folder pytest has for us.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    stack.callback(rmtree, folder, ignore_errors=True)
    user: list[str | Path] = []
    if os.getuid() == 0:  # it refuses to run as root
        os.chown(folder, NOBODY, NOBODY)
        user = [sys.executable, "-c", AS_NOBODY]
    env = PEERS["postgresql"].environ()
    data, initdb = folder / "data", program_path("postgresql", "initdb")
    command = [*user, initdb, "-D", data, "-U", "shop", "-A", "trust", "-N", "-L", _share(initdb)]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    options = ("-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off")
    return Started([*user, program_path("postgresql"), "-D", data, *options], env)


def _share(program: Path) -> Path:
    return program.parents[4] / "share/postgresql" / program.parents[1].name


def _http_server(port: int, _folder: Path, _stack: ExitStack) -> Started:
    options = ("--protocol", "HTTP/1.1", "--bind", "127.0.0.1", str(port))
    return Started([sys.executable, "-m", "http.server", *options])


def _script(port: int, _folder: Path, _stack: ExitStack) -> Started:
    return Started(["sh", "-c", SCRIPT, sys.executable, str(port)])


def _gunicorn(port: int, folder: Path, _stack: ExitStack) -> Started:
    (folder / "shop.py").write_text(SHOP)
    options = ("-w", "4", "--no-control-socket", "--chdir", folder, "-b", f"127.0.0.1:{port}")
    return Started([sys.executable, "-m", "gunicorn", *options, "shop:wsgi"])


def _uvicorn(port: int, folder: Path, _stack: ExitStack) -> Started:
    (folder / "shop.py").write_text(SHOP)
    options = ("--workers", "4", "--no-access-log", "--app-dir", folder, "--port", str(port))
    return Started([sys.executable, "-m", "uvicorn", *options, "shop:asgi"])


CHILDREN = {
    "nginx": Child(_nginx, stop_signal="QUIT", processes=3),
    "redis": Child(_redis, Redis),
    "postgresql": Child(_postgresql, Postgres, stop_signal="INT", processes=5),
    "http.server": Child(_http_server, status=128 + 15),
    "script": Child(_script, status=7, processes=2),
    "gunicorn": Child(_gunicorn, processes=5),
    "uvicorn": Child(_uvicorn, processes=5),
}
