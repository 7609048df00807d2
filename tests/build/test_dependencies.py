"""Stator works with the lowest and the newest of its dependencies that pyproject.toml allows, under each CPython."""

import fcntl
import hashlib
import ssl
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from stator.collectors.catalog import BUILT_IN
from tests import pythons
from tests.conftest import ROOT
from tests.credentials import USERS, basic, write_private
from tests.fakes import Agent
from tests.program import Program, eventually

CACHE = ROOT / ".cache/dependencies"
DEPENDENCIES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
UV = (sys.executable, "-m", "uv")


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"


def environment(version: str, python: str, resolution: str) -> str:
    """The interpreter of an environment with nothing but the dependencies; made once, and kept."""
    key = hashlib.sha256(repr((DEPENDENCIES, python)).encode()).hexdigest()[:16]
    folder = CACHE / f"{version}-{resolution}-{key}"
    own = folder / "bin/python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            run(*UV, "venv", "--quiet", "--clear", "--python", python, str(folder))
            run(*UV, "pip", "install", "--quiet", f"--python={own}", f"--resolution={resolution}", *DEPENDENCIES)
            (folder / "complete").touch()
    return str(own)


REQUEST = "\r\n".join(
    ["GET {path} HTTP/1.1", "Host: stator", "Connection: close", f"Authorization: {basic()['Authorization']}", "", ""]
)


class Load:
    """Clients that ask again and again, on a connection each time, until they are refused."""

    def __init__(self, program: Program, tls: ssl.SSLContext | None = None) -> None:
        self.outcomes: list[str] = []
        self._program, self._tls = program, tls
        self._threads = [threading.Thread(target=self._ask, args=(path,)) for path in ("/monitor/live", "/metrics") * 2]
        for thread in self._threads:
            thread.start()

    def _ask(self, path: str) -> None:
        while True:
            try:
                connection = self._program.dial()
            except ConnectionRefusedError:
                return
            try:
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_hostname="127.0.0.1")
                with connection, connection.makefile("rb") as answer:
                    connection.sendall(REQUEST.format(path=path).encode())
                    self.outcomes.append(answer.read()[:15].decode())
            except OSError as error:
                self.outcomes.append(repr(error))

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(20)


# The lowest versions have no wheels for the newest CPythons.
ENDS = [("highest", version) for version in pythons.found()]
ENDS += [("lowest-direct", version) for version in pythons.found() if version not in ("3.14", "3.15")]


@pytest.mark.parametrize(("resolution", "version"), ENDS)
def test_starts_answers_and_stops_without_losing_a_request(
    version: str, resolution: str, wheel: Path, tmp_path: Path
) -> None:
    python = environment(version, pythons.found()[version], resolution)
    with Agent() as agent, Agent(body=b"up 1\n") as target:
        settings = {
            "STTR_CLIENT_BASEURI": agent.uri,
            "STTR_COLLECTORS": ",".join(BUILT_IN),
            "STTR_TEXTFILE_PATHS": str(tmp_path),
            "STTR_SCRAPE_TARGETS": target.uri,
            "STTR_SERVER_WORKERS": "2",
            "STTR_SERVER_USERSFILE": str(write_private(tmp_path / "users", USERS)),
        }
        file = tmp_path / "stator.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (tmp_path / "depth.prom").write_text("# HELP depth Jobs\n# TYPE depth gauge\ndepth 1\n")
        command = (python, "-m", "stator", "--env-file", str(file))
        environ = {"PYTHONPATH": str(wheel), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        with Program(environ, tmp_path, command=command) as program:
            program.wait_for("registered", within=30)
            text = program.get("/metrics", {"Accept": "text/plain; version=1.0.0", **basic()}).body.decode()
            assert "\ndepth 1\n" in text
            assert "\nup 1\n" in text
            assert text.count("\nstator_collector_success") == len(BUILT_IN) + 1
            assert not [line for line in text.splitlines() if "_success{" in line and float(line.split()[1]) != 1]
            load = Load(program)
            eventually(lambda: len(load.outcomes) > 50)
            assert program.stop() == 0
            load.wait()
            assert set(load.outcomes) == {"HTTP/1.1 200 OK"}
            assert [line for line in program.lines() if line["level"] in ("warning", "error")] == []
            assert program.errors == ""
        assert agent.services == {}


@pytest.mark.parametrize(("resolution", "version"), ENDS)
def test_https_answers_and_stops_without_losing_a_request(
    version: str, resolution: str, wheel: Path, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    python = environment(version, pythons.found()[version], resolution)
    text = f"tls_server_config:\n  cert_file: {certificate[0]}\n  key_file: {certificate[1]}\nbasic_auth_users: {{}}\n"
    files = {"STTR_SERVER_WEBCONFIG": str(write_private(tmp_path / "web.yml", text))}
    environ = {"PYTHONPATH": str(wheel), "STTR_SERVER_WORKERS": "2", **files}
    with Program(environ, tmp_path, command=(python, "-m", "stator")) as program:
        program.wait_for("ready", within=30)
        load = Load(program, ssl.create_default_context(cafile=certificate[0]))
        eventually(lambda: len(load.outcomes) > 50)
        assert program.stop() == 0
        load.wait()
        assert set(load.outcomes) == {"HTTP/1.1 200 OK"}
        assert [line for line in program.lines() if line["level"] in ("warning", "error")] == []
        assert program.errors == ""
