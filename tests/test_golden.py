"""What users read, byte for byte: help, configuration, one scrape, a run's log, the public interface, and statuses.

The files in golden/ are written again by `python -m tests.test_golden`, where a change means to change them.
"""

import inspect
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import stator
from stator.embedding.keywords import Keywords
from stator.log.render import TRUNCATED
from tests.certificates import Authority
from tests.credentials import basic, settings
from tests.program import MODULE, ROOT, Program

GOLDEN = Path(__file__).with_name("golden")
# One setting of each kind, and a collector whose points depend on nothing but time.
ENV = {
    "STTR_COLLECTORS": "wave",
    "STTR_WAVE_SEED": "7",
    "STTR_LOGGER_FORMAT": "json",
    # The configuration in the log is whole, whatever the length of its version.
    "STTR_LOGGER_MAXLEN": "100000",
    "STTR_ROSTER_SERVICE_TAGS": "metrics,blue",
    "STTR_CLIENT_PASS": "hidden",
    "STTR_CLIENT_USER": "someone",
    "STTR_SERVER_TIMEOUT": "1m30s",
}
PATHS = (
    *("/", "/status", "/assets/none", "/metrics", "/metrics/", "/config", "/none", "/monitor", "/monitor/"),
    *("/monitor/ready", "/monitor/live", "/monitor/none", "/monitor/../config", "//monitor", "/Monitor"),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO")
# What differs from run to run, or from machine to machine.
VOLATILE = {
    "ts": "TS",
    "run_id": "RUN",
    "worker_id": "WORKER",
    "request_id": "REQUEST",
    "elapsed": 0,
    "address": "127.0.0.1:PORT",
    "remote_port": 0,
    "version": "VERSION",
}
# What `Stator.registered` and `Stator.serve` return.
NOT_MADE_BY_USERS = (stator.Registration, stator.Serving)


def output_of(*args: str) -> str:
    """What the program writes to stdout for flags."""
    done = subprocess.run(
        [*MODULE, *args], env={"PYTHONPATH": str(ROOT), **ENV}, cwd="/", capture_output=True, text=True, check=True
    )
    return done.stdout


def steady(value: Any) -> Any:
    """A log line or a configuration, without what differs from run to run."""
    if isinstance(value, list):
        return [steady(each) for each in value]
    if isinstance(value, str):
        value = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", value)
        value = samples(
            re.sub(r"(?<=\()\d+(?=\))|(?<=pid: )\d+|(?<=gunicorn )[0-9.]+|(?<=Length\":\[\")\d{2,}", "N", value)
        )
        # The version before it may be longer or shorter.
        return value[:800] + TRUNCATED if value.endswith(TRUNCATED) else value
    if not isinstance(value, Mapping):
        return value
    return {name: VOLATILE.get(name, steady(inner)) for name, inner in value.items()}


def samples(text: str) -> str:
    """An exposition or an answer, without the values, stamps and ids that differ."""
    text = re.sub(r'("version"|version)(=|:)"[^"]*"', r'\1\2"VERSION"', text)
    text = re.sub(r'(commit|python)="[^"]*"', r'\1="…"', text)
    return re.sub(r"^([a-z]\S*(?:\{.*\})?) -?[0-9]\S*( [0-9.]+)?$", r"\1 VALUE", text, flags=re.MULTILINE)


def interface() -> str:
    """All that can be imported from `stator`: names, parameters and methods, and the keywords of a Stator."""
    lines = [f"**keywords: {', '.join(Keywords.__annotations__)}"]
    for name in stator.__all__:
        public = getattr(stator, name)
        lines.append(name + parameters(public))
        if inspect.isclass(public):
            methods = sorted(each for each in vars(public) if each[0] != "_" and callable(getattr(public, each)))
            lines += [f"    {each}{parameters(getattr(public, each))}" for each in methods]
    return "\n".join(lines) + "\n"


def parameters(public: Any) -> str:
    """Parameters with their defaults, where something has any that users give."""
    if public in NOT_MADE_BY_USERS or not (inspect.isclass(public) or inspect.isroutine(public)):
        return ""
    try:
        signature = inspect.signature(public)
    except ValueError:  # an exception's, or an integer's
        return ""
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    text = str(inspect.Signature([each for each in plain if each.name != "self"]))
    return "" if text == "(*args, **kwargs)" else text  # a Protocol's


def outputs(folder: Path) -> Iterator[tuple[str, str]]:
    """Each golden file's name, and what it should hold by the sources as they are."""
    yield "help.txt", output_of("-h")
    yield "interface.txt", interface()
    yield "config.json", json.dumps(steady(json.loads(output_of("-c"))), indent=2) + "\n"
    with Program(ENV, folder) as stator:
        stator.wait_for("not registering: no discovery service is configured (STTR_CLIENT_BASEURI)")
        text = stator.get("/metrics")
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        modern = stator.get("/metrics?collect[]=wave", openmetrics)
        stator.get("/monitor")
        stator.get("/none")
        stator.request("POST", "/metrics", b"some body")
        assert stator.stop() == 0
        lines = [json.dumps(steady(line)) for line in stator.lines()]
    yield "statuses.txt", statuses(folder)
    yield "scrape.txt", samples(text.body.decode())
    yield "scrape-openmetrics.txt", samples(modern.body.decode())
    yield "run.log", "\n".join(lines) + "\n"


def statuses(folder: Path) -> str:
    """The status of each path and method, without credentials, with wrong ones and with right ones.

    Those over https stand there only where they differ. "stranger" has no client certificate where these are asked
    for, and "known" has one.
    """
    credentials: dict[str, dict[str, str]] = {"none": {}, "wrong": basic("prom", "wrong"), "right": basic()}
    authority = Authority(folder / "authority")
    server, own = authority.issue(), authority.issue("prometheus")
    tls = {"STTR_SERVER_CERTFILE": str(server.cert), "STTR_SERVER_KEYFILE": str(server.key)}
    stranger, known = (ssl.create_default_context(cafile=authority.cert) for _ in range(2))
    known.load_cert_chain(own.cert, own.key)
    by_certificate = {**tls, "STTR_SERVER_CLIENTCAFILE": str(authority.cert)}
    table = columns(folder, settings(folder), {name: (headers, None) for name, headers in credentials.items()})
    over_tls = {name: (headers, stranger) for name, headers in credentials.items()}
    for name, column in columns(folder, {**tls, **settings(folder)}, over_tls).items():
        if column != table[name]:
            table[f"{name}, https"] = column
    table |= columns(folder, by_certificate, {"stranger": ({}, stranger), "known": ({}, known)})
    lines = [f"{'path':<20}{'method':<10}{''.join(f'{name:<9}' for name in table)}"]
    for at, (path, method) in enumerate(product(PATHS, METHODS)):
        lines.append(f"{path:<20}{method:<10}{''.join(f'{column[at]:<9}' for column in table.values())}")
    return "\n".join(map(str.rstrip, lines)) + "\n"


def columns(
    folder: Path, env: Mapping[str, str], clients: Mapping[str, tuple[Mapping[str, str], ssl.SSLContext | None]]
) -> dict[str, list[int]]:
    """The statuses of all paths and methods, for clients that send such headers, in such a context."""
    with Program({"STTR_COLLECTORS": "wave", **env}, folder) as stator:
        return {
            name: [
                # Each from an address of its own: one that fails too often is not answered any more.
                status(stator, f"127.0.{1 + number // 200}.{1 + number % 200}", method, path, headers, tls)
                for number, (path, method) in enumerate(product(PATHS, METHODS))
            ]
            for name, (headers, tls) in clients.items()
        }


def status(
    stator: Program, address: str, method: str, path: str, headers: Mapping[str, str], tls: ssl.SSLContext | None
) -> int:
    """The status of a request from an address of this host."""
    connection: HTTPConnection
    if tls:
        connection = HTTPSConnection("127.0.0.1", stator.port, timeout=10, source_address=(address, 0), context=tls)
    else:
        connection = HTTPConnection("127.0.0.1", stator.port, timeout=10, source_address=(address, 0))
    with closing(connection):
        connection.request(method, path, headers=dict(headers))
        return connection.getresponse().status


@pytest.fixture(scope="module")
def actual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return dict(outputs(tmp_path_factory.mktemp("golden")))


@pytest.mark.parametrize(
    "name",
    ["help.txt", "interface.txt", "config.json", "scrape.txt", "scrape-openmetrics.txt", "run.log", "statuses.txt"],
)
def test_what_users_read_is_the_golden_file(actual: dict[str, str], name: str) -> None:
    assert actual[name] == (GOLDEN / name).read_text("utf-8")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        for name, text in outputs(Path(temporary)):
            (GOLDEN / name).write_text(text, "utf-8")
            sys.stdout.write(f"wrote {GOLDEN / name}\n")
