"""A web configuration file does the same to Stator as to node_exporter."""

import socket
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.credentials import write_private
from tests.integration import web_configs
from tests.integration.programs import Program as Peer
from tests.integration.programs import free_ports, program_path
from tests.integration.web_configs import BAD, GOOD, HEADERS, REFUSED, REQUESTS, Certificates, Outcome
from tests.program import MODULE, ROOT, Program

COLLECTORS = {"STTR_COLLECTORS": "wave"}
# Statuses of what exceeds the rate, and of http on a port with TLS.
BEFORE_ALL = (429, 400)


class NodeExporter(Peer):
    """The node_exporter that knows all keys."""

    def __init__(self, folder: Path, file: Path) -> None:
        (port,) = free_ports(1)
        super().__init__(command(file, port), port, folder)

    def ready(self) -> bool:
        """Tell whether it listens; a request would count."""
        with socket.create_connection((self.host, self.http_port)):
            return True


def command(file: Path, port: int) -> list[str | Path]:
    program = program_path("node-exporter-1.11", "prometheus-node-exporter")
    flags = [f"--web.listen-address=127.0.0.1:{port}", f"--web.config.file={file}", "--collector.disable-defaults"]
    return [program, *flags, "--collector.loadavg"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return web_configs.make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def _old_versions() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1, in this process's clients
        yield


def write(text: str, certificates: Certificates, folder: Path) -> Path:
    return write_private(folder / "web.yml", web_configs.fill_in(text, certificates))


def checked(file: Path) -> str:
    """What `--check` says of a file, empty where it is good."""
    env = {"STTR_SERVER_WEBCONFIG": str(file), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*MODULE, "--check"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 2), done.stderr
    return done.stderr if done.returncode else ""


def shown(found: list[Outcome]) -> list[str]:
    return [f"{' '.join(request)}: {each.status}" for request, each in zip(REQUESTS, found, strict=True)]


def chosen(outcome: Outcome, names: frozenset[str]) -> Mapping[str, str]:
    """The headers that the file sets; others are each program's own."""
    return {} if outcome.status in BEFORE_ALL else {name: outcome.headers.get(name, "") for name in names}


def test_there_are_forty_requests() -> None:
    assert len(set(REQUESTS)) == 40


@pytest.mark.parametrize("name", GOOD)
def test_both_answer_the_same_requests_with_the_same_statuses(
    name: str, certificates: Certificates, tmp_path: Path
) -> None:
    file, env = write(GOOD[name], certificates, tmp_path), COLLECTORS
    names = frozenset(each for each in HEADERS if f" {each}:" in GOOD[name])
    with NodeExporter(tmp_path, file) as peer, Program({**env, "STTR_SERVER_WEBCONFIG": str(file)}, tmp_path) as own:
        expected = web_configs.outcomes(peer.http_port, certificates)
        found = web_configs.outcomes(own.port, certificates)
    assert shown(found) == shown(expected)
    assert [chosen(each, names) for each in found] == [chosen(each, names) for each in expected]


@pytest.mark.parametrize("name", BAD)
def test_both_refuse_a_file_that_is_wrong(name: str, certificates: Certificates, tmp_path: Path) -> None:
    file = write(BAD[name], certificates, tmp_path)
    (port,) = free_ports(1)
    assert subprocess.run(command(file, port), capture_output=True, timeout=20, check=False).returncode == 1
    assert checked(file).startswith(f"stator: STTR_SERVER_WEBCONFIG='{file}': expected ")


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_had_here_is_refused_with_a_line(name: str, certificates: Certificates, tmp_path: Path) -> None:
    text, line = REFUSED[name]
    file = write(text, certificates, tmp_path)
    with NodeExporter(tmp_path, file):
        assert line in checked(file)
