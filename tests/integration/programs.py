"""The real programs that tests run against, each on free ports of 127.0.0.1 with a folder of its own.

Each is a context: it is ready to be used inside, and stopped outside, whatever happened in between.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode

import pytest

from tests.integration.fetch import PEERS

T = TypeVar("T")


class ProgramError(Exception):
    """A program doesn't start, or answers with an error; says what it said."""


def program_path(peer: str, program: str = "") -> Path:
    """Give the path of a peer's program. A test that can't have it is skipped; with CI=true it fails."""
    if path := PEERS[peer].find(program):
        return path
    reason = f"{program or peer} is not here; to get it: python tests/integration/fetch.py {peer}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _own_ports() -> Iterator[int]:
    """Give ports of this process's own, for ever: several may run tests at the same time.

    They lie below those that the kernel gives to clients, so that nobody gets one by chance before it is used.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    own = range(10_000 + worker * 2_500, 10_000 + (worker + 1) * 2_500)
    yield from islice(cycle(own), random.randrange(len(own)), None)


_PORTS = _own_ports()


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Give ports of an address of ours that nothing uses, neither over TCP nor, as Consul's gossip does, over UDP."""
    return list(islice((port for port in _PORTS if _is_free(host, port)), count))


def _is_free(host: str, port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        try:
            tcp.bind((host, port))
            udp.bind((host, port))
        except OSError:
            return False
    return True


def eventually(probe: Callable[[], T], within: float = 20.0, every: float = 0.05) -> T:
    """Call a probe, at intervals in seconds, until what it gives is true, and give that.

    Raises:
        TimeoutError: with what it gave last, where nothing was true for so many seconds.
    """
    deadline = time.monotonic() + within
    while not (outcome := probe()):
        if time.monotonic() > deadline:
            msg = f"not in {within} seconds; the last outcome was {outcome!r}"
            raise TimeoutError(msg)
        time.sleep(every)
    return outcome


class Program:
    """A program that answers HTTP. What it prints goes to the file `output` in its folder."""

    def __init__(
        self, command: Sequence[str | Path], http_port: int, folder: Path, host: str = "127.0.0.1", token: str = ""
    ) -> None:
        self.host, self.http_port = host, http_port
        self.url = f"http://{host}:{http_port}"
        self._headers = {"X-Consul-Token": token} if token else {}
        self.output = folder / "output"
        self._command = command

    def ready(self) -> bool:
        """Tell whether the program can be used; may raise as `get` does while it can't."""
        raise NotImplementedError

    def get(self, path: str, **query: str) -> bytes:
        """Give the body of the program's answer to a GET, as `request` does."""
        return self.request("GET", f"{path}?{urlencode(query)}")

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Give the body of the program's answer.

        Raises:
            OSError: where the program isn't reached.
            ProgramError: where it answers with another status than 200.
        """
        # Not urllib, which would ask the machine's proxy.
        connection = HTTPConnection(self.host, self.http_port, timeout=10)
        try:
            connection.request(method, path, body, self._headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            msg = f"{method} {path}: {response.status} {answer.decode(errors='replace')}"
            raise ProgramError(msg)
        return answer

    def start(self) -> None:
        """Start the program and wait until it can be used.

        Raises:
            ProgramError: where it ends or doesn't get ready, with what it printed.
        """
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        with ExitStack() as failed:
            failed.callback(self.kill)
            with suppress(TimeoutError):
                eventually(lambda: self._process.poll() is not None or self._is_ready())
            if self._process.poll() is not None or not self._is_ready():
                how = f"{self._command[0]} doesn't get ready (exit status: {self._process.poll()})"
                msg = f"{how}; it printed:\n{self.output.read_text(errors='replace')}"
                raise ProgramError(msg)
            failed.pop_all()

    def stop(self) -> None:
        """Ask the program to end; where it takes too long, kill it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the program at once, without a chance to say goodbye."""
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send the program a signal."""
        self._process.send_signal(number)

    def restart(self) -> None:
        """Start the program again, on the same ports and with the same files; stop it first if it runs."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        try:
            return self.ready()
        except (OSError, HTTPException, ProgramError):
            return False


class Consul(Program):
    """An agent that is its own server, and keeps all in memory: once ended it has forgotten everything.

    Further flags are Consul's own; a token is sent with all that it is asked here.
    """

    def __init__(self, folder: Path, *flags: str, token: str = "") -> None:
        http_port, server_port, serf_port = free_ports(3)
        super().__init__(
            [
                program_path("consul"),
                *("agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1"),
                *(f"-http-port={http_port}", f"-server-port={server_port}", f"-serf-lan-port={serf_port}"),
                *("-serf-wan-port=-1", "-dns-port=-1", "-grpc-port=-1"),
                "-hcl=disable_update_check = true",
                *flags,
            ],
            http_port,
            folder,
            token=token,
        )

    def ready(self) -> bool:
        # The catalog has a node, this one, only once a leader is elected and the agent has told it of itself.
        return bool(json.loads(self.get("/v1/catalog/nodes")))

    def register(self, service: dict[str, Any]) -> None:
        """Register a service, in the words of the agent's API (`ID`, `Name`, `Address`, `Port`, ...)."""
        self.request("PUT", "/v1/agent/service/register", json.dumps(service).encode())

    def services(self) -> dict[str, dict[str, Any]]:
        """Give what is registered with the agent, by service id."""
        return dict(json.loads(self.get("/v1/agent/services")))

    def service(self, service_id: str) -> dict[str, Any] | None:
        """Give one service as the agent shows it, if it is registered."""
        return self.services().get(service_id)

    def catalogued(self, service_id: str) -> dict[str, Any] | None:
        """Give one service as the cluster's catalog shows it, if it is there."""
        listed = json.loads(self.get(f"/v1/catalog/service/{service_id.rpartition('-')[0]}"))
        return next((each for each in listed if each["ServiceID"] == service_id), None)

    def checks(self) -> dict[str, dict[str, Any]]:
        """Give the state of the agent's checks, by check id (`service:` and the service id)."""
        return dict(json.loads(self.get("/v1/agent/checks")))

    def health(self, name: str) -> list[Health]:
        """Give the health of a service's instances as the catalog has it, whoever registered them where."""
        listed = json.loads(self.get(f"/v1/health/service/{name}", stale=""))
        checks = (check for each in listed for check in each["Checks"] if check["ServiceID"])
        return [Health(check["ServiceID"], check["Status"], check["Output"]) for check in checks]


class Health(NamedTuple):
    """What the catalog has of an instance: `passing`, `warning` or `critical`, and why."""

    service_id: str
    status: str
    output: str


class Sample(NamedTuple):
    """A series' value at a time (Unix seconds)."""

    labels: dict[str, str]
    stamp: float
    value: float


class Scraper(Program):
    """A program that scrapes as its Prometheus configuration says and answers Prometheus' API."""

    def query(self, expression: str) -> list[Sample]:
        """Give what a PromQL expression that selects instant vectors is now."""
        result = self._api("query", query=expression, nocache="1")["result"]
        return [Sample(each["metric"], each["value"][0], float(each["value"][1])) for each in result]

    def samples(self, expression: str, since: float) -> list[tuple[float, float]]:
        """Give the stored (time, value) pairs of the one series that a selector selects since a time."""
        (series,) = self._api("query", query=f"{expression}[{time.time() - since:.0f}s]")["result"]
        return [(stamp, float(value)) for stamp, value in series["values"]]

    def targets(self) -> list[dict[str, Any]]:
        """Give what is scraped; among a target's fields are `scrapeUrl`, `labels`, `health`, `lastError`."""
        return list(self._api("targets", state="active")["activeTargets"])

    def _api(self, path: str, **query: str) -> dict[str, Any]:
        return dict(json.loads(self.get(f"/api/v1/{path}", **query))["data"])


class Prometheus(Scraper):
    """Prometheus, in one of the versions that fetch.py names; 2.24 is the one that discovers in Consul."""

    def __init__(self, version: str, config: str, folder: Path) -> None:
        (http_port,) = free_ports(1)
        (folder / "prometheus.yml").write_text(config)
        super().__init__(
            [
                program_path(f"prometheus-{version}", "prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{http_port}",
            ],
            http_port,
            folder,
        )

    def ready(self) -> bool:
        return bool(self.get("/-/ready"))


class VictoriaMetrics(Scraper):
    """VictoriaMetrics, single-node, that scrapes."""

    def __init__(self, config: str, folder: Path) -> None:
        (http_port,) = free_ports(1)
        (folder / "scrape.yml").write_text(config)
        super().__init__(
            [
                program_path("victoria-metrics"),
                f"-promscrape.config={folder / 'scrape.yml'}",
                f"-storageDataPath={folder / 'data'}",
                f"-httpListenAddr=127.0.0.1:{http_port}",
                # By default it sees a registration after 30 seconds, and shows a sample after 30 more.
                "-promscrape.consulSDCheckInterval=1s",
                "-search.latencyOffset=0s",
            ],
            http_port,
            folder,
        )

    def ready(self) -> bool:
        return self.get("/health") == b"OK"

    def query(self, expression: str) -> list[Sample]:
        # What was asked for before it was there stays unseen for 10 seconds, but for this.
        self.get("/internal/force_flush")
        return super().query(expression)


class NodeExporter(Program):
    """Prometheus' own exporter of a host, with some of its collectors; of itself it tells nothing."""

    def __init__(self, collectors: Iterable[str], folder: Path, *flags: str) -> None:
        (http_port,) = free_ports(1)
        super().__init__(node_exporter(collectors, http_port, *flags), http_port, folder)

    def ready(self) -> bool:
        return bool(self.get("/"))


def node_exporter(collectors: Iterable[str], http_port: int, *flags: str) -> list[str | Path]:
    """Give its command line."""
    return [
        program_path("node-exporter", "prometheus-node-exporter"),
        *("--collector.disable-defaults", "--web.disable-exporter-metrics"),
        *(f"--collector.{name}" for name in collectors),
        *(f"--web.listen-address=127.0.0.1:{http_port}", *flags),
    ]


class Verdict(NamedTuple):
    """What a checking program says."""

    exit_code: int
    output: str


class Promtool:
    """Prometheus' own linter."""

    def __init__(self) -> None:
        self.path = program_path("prometheus-2.42", "promtool")

    def check_metrics(self, exposition: str) -> Verdict:
        """Let promtool judge an exposition in the text format."""
        done = subprocess.run(
            [self.path, "check", "metrics"],
            input=exposition,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        return Verdict(done.returncode, done.stdout)
