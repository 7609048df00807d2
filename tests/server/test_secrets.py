"""Secrets appear nowhere: a run with one in every place, with requests, checks, failures and error pages."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.programs import free_ports
from tests.program import MODULE, ROOT, Program, eventually
from tests.secret_places import MASK, EchoingAgent, Places
from tests.server.conftest import Starts

# A collector with settings of its own, whose errors hold what it should not log.
SHOP = """
import attrs
from stator import Secret, setting


class Orders:
    @attrs.frozen
    class Config:
        password: Secret = setting(Secret(), desc="password")
        database: str = setting("", desc="URI of the database")

    def __init__(self, config):
        self._config = config

    def collect(self, now):
        try:
            raise ConnectionError(self._config.database)
        except ConnectionError as error:
            raise LookupError(f"no orders with {self._config.password.reveal()}") from error
"""


def environment(places: Places, folder: Path | None) -> dict[str, str]:
    own = {
        "STTR_COLLECTORS": "wave,shop:Orders",
        "STTR_ORDERS_PASSWORD": places.secret("a plugin's password"),
        "STTR_ORDERS_DATABASE": places.uri("a plugin's database", "db", "/shop"),
    }
    return places.environment(folder) | own


def printed(variables: dict[str, str], folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([*MODULE, *args], env=environ, cwd=folder, capture_output=True, text=True, check=False)


def ask_for_everything(program: Program, places: Places) -> str:
    """Sends requests of every kind with secrets in all of their parts; returns the bodies of the answers."""
    headers = {
        name: places.plain(f"the header {name} of a request")
        for name in ("Authorization", "Cookie", "X-Gate-Key", "Proxy-Authorization", "X-Consul-Token")
    }
    headers["Referer"] = places.uri("the header Referer of a request", "elsewhere", "/page")
    token = places.plain("the query of a request")
    answers = [
        program.get(f"{path}?token={token}", headers)
        for path in ("/metrics", "/monitor", "/config", "/none", "/metrics/")
    ]
    answers.append(program.get(f"/metrics?collect[]=none&token={token}", headers))
    answers.append(program.request("POST", f"/monitor?{token}", places.secret("STTR_CLIENT_PASS").encode(), headers))
    answers.append(program.get("/metrics", {"Accept": "application/openmetrics-text", **headers}))
    with program.dial() as client:
        client.sendall(f"GET /?token={token} HTTP/1.1\r\nX Y: {token}\r\n\r\n".encode())
        refused = client.recv(1 << 16)
    return "\n".join(answer.body.decode() for answer in answers) + refused.decode()


def check_as_consul(agent: EchoingAgent, port: int) -> None:
    """Makes the health check that is registered."""
    (registered,) = agent.services.values()
    check = registered["Check"]
    url = urlsplit(check["HTTP"])
    command = ["curl", "-s", f"http://127.0.0.1:{port}{url.path}?{url.query}"]
    headers = [f"-H{name}: {value}" for name, values in check.get("Header", {}).items() for value in values]
    subprocess.run([*command, *headers, "-o/dev/null"], check=True)


@pytest.mark.parametrize(
    ("layout", "length", "check", "are_files"),
    [("json", "0", "http", True), ("json", "70", "ttl", False), ("text", "999", "http", True)],
)
def test_no_secret_is_in_any_output_of_a_run(
    starts: Starts, tmp_path: Path, layout: str, length: str, check: str, *, are_files: bool
) -> None:
    places, (port,) = Places(), free_ports(1)
    answered = {
        "Set-Cookie": places.plain("a header of an answer"),
        "X-Other": places.secret("another header of an answer"),
        "Location": places.uri("a redirect", "elsewhere"),
    }
    with EchoingAgent(headers=answered) as agent:
        variables = environment(places, tmp_path if are_files else None) | {
            "STTR_CLIENT_BASEURI": agent.uri,
            "STTR_CONSUL_CHECK": check,
            "STTR_CONSUL_CHECKINTERVAL": "100ms",
            "STTR_LOGGER_FORMAT": layout,
            "STTR_LOGGER_LEVEL": "debug",
            "STTR_LOGGER_MAXLEN": length,
            "STTR_ROSTER_RETRYMAX": "50ms",
            "STTR_ROSTER_INTERVAL": "200ms",
            "STTR_SERVER_PORT": str(port),
        }
        program = starts(variables, modules={"shop": SHOP})
        eventually(lambda: len(agent.asked("/v1/agent/service/register")) > 6)
        agent.is_failing = False
        eventually(lambda: agent.services)
        bodies = ask_for_everything(program, places)
        if check == "http":
            check_as_consul(agent, port)
        else:
            eventually(lambda: agent.asked("/v1/agent/check/update/"))
        reports = b"".join(request.body for request in agent.asked("/v1/agent/check/update/"))
        agent.is_failing = True
        failed = len(agent.requests)
        eventually(lambda: len(agent.requests) > failed + 6)
        program.stop()
        sent = "".join(f"{dict(request.headers)}{request.body.decode()}" for request in agent.requests)
    assert places.cores["STTR_CONSUL_TOKEN"] in sent
    assert places.cores["STTR_CLIENT_HEADERS, X-Key"] in sent
    assert (places.cores["STTR_CONSUL_CHECKHEADERS, X-Key"] in sent) == (check == "http")
    assert program.output.count(MASK) > 10
    assert "received response" in program.output
    places.holds_none(stdout=program.output, stderr=program.errors, answers=bodies, reports=reports.decode())


def test_no_secret_is_in_what_flags_print(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    for folder in (None, tmp_path):
        places = Places()
        variables = environment(places, folder) | {"STTR_NOT_ASETTING": "x"}
        for flag in ("-c", "--check", "-h"):
            done = printed(variables, tmp_path, flag)
            # The collector fails, with a secret in its error.
            assert done.returncode == (2 if flag == "--check" else 0), done.stderr
            places.holds_none(stdout=done.stdout, stderr=done.stderr)
        harmless = json.loads(printed(variables, tmp_path, "-c").stdout)["client"]["headers"]
        assert harmless == ["X-Key", MASK, "Cookie", MASK, "Accept-Language", "klingon"]


@pytest.mark.parametrize("flag", ["-c", "--check", ""])
def test_no_secret_is_in_what_is_printed_of_mistakes(tmp_path: Path, flag: str) -> None:
    places = Places()
    done = printed(places.mistaken(), tmp_path, *filter(None, [flag]))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) > 8
    assert MASK in done.stderr
    places.holds_none(stderr=done.stderr)
