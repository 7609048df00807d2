"""What is published runs under every CPython: as the one file, and as a wheel in somebody else's application."""

import os
import re
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests import pythons
from tests.build.test_dependencies import environment
from tests.build.test_pyz import start
from tests.certificates import Authority
from tests.credentials import basic, settings, write_private
from tests.integration.programs import Consul, free_ports
from tests.program import Program, cannot, eventually

FORMATS = {
    "text/plain; version=0.0.4": "# TYPE queue_depth gauge",
    "text/plain; version=1.0.0": "# TYPE queue_depth gauge",
    "application/openmetrics-text; version=1.0.0": "# EOF",
}
PLUGIN = """
from stator import Point


class QueueDepth:
    def collect(self, now):
        yield Point("queue_depth", "Jobs waiting", 3)
"""
APPLICATION = """
import stator

observability = stator.Stator(service="shop", collectors=["runtime", "process"])
registration = observability.registered(port={port}, monitor="/monitor")


async def shop(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        registration.start()
        await send({{"type": "lifespan.startup.complete"}})
        assert (await receive())["type"] == "lifespan.shutdown"
        registration.stop()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"sold"}})


app = observability.asgi_app(shop)
"""
FORKS = """
import os

from stator.server.signals import block_signals, startup_guard

blocked = block_signals()
for _ in range(50):
    with startup_guard(blocked):
        pass
    if os.fork() == 0:
        os._exit(0)
    os.wait()
"""
# Python warns of a fork in a process that has threads only where that is asked for.
WARN = {"PYTHONWARNINGS": "always::DeprecationWarning"}


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with Consul(tmp_path_factory.mktemp("consul")) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def _unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIV_ROOT", str(tmp_path_factory.mktemp("shiv")))
        yield


@pytest.fixture(params=pythons.VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Each CPython that Stator is for."""
    if request.param not in pythons.found():
        if request.param not in pythons.FETCHED:
            pytest.skip(f"CPython {request.param} is not on this machine, and not among Debian's packages")
        cannot(f"CPython {request.param} is not here; to get it: python -m tests.pythons")
    return str(request.param)


def registered(consul: Consul, name: str) -> bool:
    return any(service["Service"] == name for service in consul.services().values())


def test_the_file_serves_with_a_plugin_and_consul_and_stops_in_order(
    version: str, release: Path, consul: Consul, tmp_path: Path
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/queue_depth.py").write_text(PLUGIN)
    env = {
        "STTR_COLLECTORS": "runtime,process,host,diskusage,wave,queue_depth",
        "STTR_PLUGINS_PATH": str(tmp_path / "plugins"),
        "STTR_CLIENT_BASEURI": consul.url,
        "STTR_ROSTER_SERVICE_NAME": f"stator-{version}",
        "STTR_SERVER_WORKERS": "2",
    }
    python = pythons.found()[version]
    command = [python, str(release)]
    with Program({"PYTHONPATH": "", **env, **WARN}, tmp_path, command=command) as program:
        # While the first one still unpacks, as on a new host.
        assert re.search(r"^STTR_SERVER_PORT .*8087", start(release, "-h", python=python, **env).stdout, re.MULTILINE)
        assert f'"name": "stator-{version}"' in start(release, "-c", python=python, **env).stdout

        program.wait_for("registered", within=30)
        assert registered(consul, f"stator-{version}")
        for accepted, expected in FORMATS.items():
            answer = program.get("/metrics", {"Accept": accepted})
            text = answer.body.decode()
            assert answer.headers["content-type"].startswith(accepted)
            assert expected in text.splitlines()
            assert re.search("^queue_depth 3", text, re.MULTILINE)
            assert f'python="{version}.' in text
            assert set(re.findall(r"^stator_collector_success\S+ (\d)", text, re.MULTILINE)) == {"1"}
        assert f" {program.port} " in start(release, "ctl", python=python).stdout
        assert start(release, "ctl", str(program.workers[0].pid), "stacks", python=python).returncode == 0
        stacks = eventually(lambda: len(found := program.lines("stacks")) == 4 and found) or []
        assert sorted("\n\ntask Task-1\n" in line["stacks"] for line in stacks) == [False, False, True, True]
        assert program.stop() == 0
        assert not registered(consul, f"stator-{version}")
        assert program.errors == ""
        assert [line for line in program.lines() if line["level"] in ("warning", "error")] == []


def test_the_file_serves_https_and_reads_its_certificate_again(version: str, release: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    files = authority.issue()
    env = {
        "PYTHONPATH": "",
        "STTR_SERVER_CERTFILE": str(files.cert),
        "STTR_SERVER_KEYFILE": str(files.key),
        "STTR_SERVER_CLIENTCAFILE": str(authority.cert),
        "STTR_SERVER_CLIENTNAMES": "prometheus",
    }
    context = ssl.create_default_context(cafile=authority.cert)
    own = authority.issue(common_name="prometheus")

    def served() -> object:
        with context.wrap_socket(program.dial(), server_hostname="127.0.0.1") as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            statuses.append(client.recv(13))
            return (client.getpeercert() or {})["serialNumber"]

    statuses: list[bytes] = []
    with Program({**env, **WARN}, tmp_path, command=[pythons.found()[version], str(release)]) as program:
        program.wait_for("ready", within=30)
        before = served()
        context.load_cert_chain(own.cert, own.key)
        assert served() == before
        assert statuses == [b"HTTP/1.1 403 ", b"HTTP/1.1 200 "]
        assert program.get("/metrics").status == 400
        files.replace_by(authority.issue())
        eventually(lambda: served() != before)
        assert program.stop() == 0
        assert program.errors == ""
        assert set(statuses[1:]) == {b"HTTP/1.1 200 "}


def test_the_file_serves_the_curves_that_its_python_can_choose(version: str, release: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    files = authority.issue()
    curves = ["CurveP384", "CurveP521"] if version >= "3.15" else ["CurveP384"]
    tls = f"tls_server_config:\n  cert_file: {files.cert}\n  key_file: {files.key}\n  curve_preferences: "
    env = {"PYTHONPATH": "", "STTR_SERVER_WEBCONFIG": str(tmp_path / "web.yml"), **WARN}
    python = pythons.found()[version]
    if version < "3.15":
        write_private(tmp_path / "web.yml", f"{tls}[CurveP384, CurveP521]")
        done = start(release, "--check", python=python, **env)
        assert (done.returncode, "Python can choose several from 3.15 on" in done.stderr) == (2, True)
    write_private(tmp_path / "web.yml", f"{tls}[{', '.join(curves)}]")
    served = []
    with Program(env, tmp_path, command=[python, str(release)]) as program:
        program.wait_for("ready", within=30)
        for name, curve in (("CurveP256", "prime256v1"), ("CurveP384", "secp384r1"), ("CurveP521", "secp521r1")):
            context = ssl.create_default_context(cafile=authority.cert)
            context.set_ecdh_curve(curve)
            with program.dial() as client, suppress(ssl.SSLError):
                context.wrap_socket(client, server_hostname="127.0.0.1").close()
                served.append(name)
        assert program.stop() == 0
        assert program.errors == ""
    assert served == curves


def test_an_application_with_the_wheel_in_it_is_observed_and_registered(
    version: str, wheel: Path, consul: Consul, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    python = environment(version, pythons.found()[version], "highest")
    (tmp_path / "shop.py").write_text(APPLICATION.format(port=port))
    env = {"PYTHONPATH": str(wheel), "STTR_CLIENT_BASEURI": consul.url, "STTR_SERVER_PORT": str(port), **WARN}
    command = [python, "-m", "uvicorn", "--host=127.0.0.1", f"--port={port}", "shop:app"]
    with Program(env, tmp_path, command=command) as program:
        eventually(lambda: registered(consul, "shop"), within=30)
        assert program.get("/anything").body == b"sold"
        text = program.get("/metrics").body.decode()
        assert re.search(
            '^http_server_request_duration_seconds_count{.*http_response_status_code="200".*} 1', text, re.MULTILINE
        )
        assert f'python="{version}.' in text
        program.stop()
        eventually(lambda: not registered(consul, "shop"))
        assert "multi-threaded" not in program.output + program.errors


def test_a_start_has_no_thread_any_more_when_it_forks(version: str, wheel: Path) -> None:
    # A thread that was joined may not be gone yet, which is a matter of chance.
    python = environment(version, pythons.found()[version], "highest")
    env = os.environ | {"PYTHONPATH": str(wheel), **WARN}
    done = subprocess.run([python, "-c", FORKS], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def scraped(command: Sequence[str], release: Path, folder: Path, within: float) -> str:
    """What the file answers to a user's scrape when a command runs it, from its start to its stop in order."""
    env = {"STTR_ROSTER_REGISTRAR": "none", "PYTHONPATH": "", **settings(folder)}
    with Program(env, folder, command=[*command, str(release)]) as program:
        program.wait_for("ready", within=within)
        assert program.get("/metrics", basic("prom", "wrong")).status == 401
        text = program.get("/metrics", basic()).body.decode()
        assert program.stop(within=within) == 0
    return text


def test_the_file_answers_a_scrape_on_aarch64(release: Path, tmp_path: Path) -> None:
    if not (command := pythons.aarch64()):
        cannot("no emulator, or no CPython for aarch64; to get them: python -m tests.pythons")
    assert 'python="3.11.' in scraped(command, release, tmp_path, within=60)
    assert [path.name for path in Path(os.environ["SHIV_ROOT"]).glob("*aarch64*")]


def test_the_file_answers_a_scrape_where_the_c_library_is_musl(release: Path, tmp_path: Path) -> None:
    if not (command := pythons.musl()):
        cannot("no CPython with musl; to get one: python -m tests.pythons")
    assert 'python="3.13.' in scraped(command, release, tmp_path, within=30)
    assert [path.name for path in Path(os.environ["SHIV_ROOT"]).glob("*musl*")]


def test_a_python_that_it_is_not_for_is_told_so_in_a_line(release: Path) -> None:
    if not (command := pythons.outdated()):
        cannot("no CPython 2.7; to get it: python -m tests.pythons")
    done = subprocess.run([*command, release, "-V"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    built_for = "CPython 3.11, 3.12, 3.13, 3.14, 3.15 on x86_64-linux-gnu, aarch64-linux-gnu, x86_64-linux-musl, .*"
    assert re.fullmatch(rf"stator\.pyz: built for {built_for}; this is Python 2\.7\.\d+\n", done.stderr)
