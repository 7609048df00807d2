"""What Consul's agent is asked, in the words of the original."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stator.client import Client
from stator.client import Config as ClientConfig
from stator.launch.duration import Duration
from stator.launch.settings import Secret
from stator.roster.registrar import RegistrarError
from stator.roster.registrars.consul import Config
from stator.roster.service import Config as ServiceConfig
from stator.roster.service import Service
from tests.stand_in import Agent
from tests.story import Story

# What the original sent for the same settings.
REGISTRATION = {
    "ID": "stator-123654",
    "Name": "stator",
    "Tags": ["dev", "metrics"],
    "Address": "127.0.0.1",
    "Port": 8087,
    "Check": {
        "Status": "passing",
        "HTTP": "http://127.0.0.1:8087/monitor",
        "Interval": "1m0s",
        "Timeout": "10s",
        "DeregisterCriticalServiceAfter": "30m0s",
    },
}


def service(id_: str = "123654", meta: tuple[tuple[str, str], ...] = ()) -> Service:
    config = ServiceConfig(id=id_, tags=("dev", "metrics"), ip_address="127.0.0.1", meta=meta)
    return config.new(8087, "http://localhost:8500")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        yield made


@pytest.fixture
def client(agent: Agent, tmp_path: Path) -> Iterator[Client]:
    with Story(tmp_path / "log") as story:
        made = ClientConfig(base_uri=agent.uri, timeout=Duration.parse("5s")).new(story.log)
        yield made
        if made._pool:
            made._pool.clear()


def test_registers_with_the_words_of_the_original(agent: Agent, client: Client) -> None:
    Config().new(client).register(service())
    (asked,) = agent.requests
    assert (asked.method, asked.path) == ("PUT", "/v1/agent/service/register")
    assert json.loads(asked.body) == REGISTRATION
    assert "X-Consul-Token" not in asked.headers


def test_registers_with_what_is_configured(agent: Agent, client: Client) -> None:
    config = Config(Duration.parse("1s"), Duration.parse("250ms"), Duration.parse("1m30s"))
    config.new(client).register(service(meta=(("version", "1.2"), ("zone", "a=b"))))
    body = json.loads(agent.requests[0].body)
    assert body["Meta"] == {"version": "1.2", "zone": "a=b"}
    assert body["Check"] == {
        "Status": "passing",
        "HTTP": "http://127.0.0.1:8087/monitor",
        "Interval": "1s",
        "Timeout": "250ms",
        "DeregisterCriticalServiceAfter": "1m30s",
    }


def test_unregisters_by_id(agent: Agent, client: Client) -> None:
    Config().new(client).unregister(service())
    (asked,) = agent.requests
    assert (asked.method, asked.path) == ("PUT", "/v1/agent/service/deregister/stator-123654")
    assert asked.body == b""


def test_an_id_of_any_letters_is_unregistered(agent: Agent, client: Client) -> None:
    Config().new(client).unregister(service("a/b c?d#é"))
    assert agent.requests[0].path == "/v1/agent/service/deregister/stator-a%2Fb%20c%3Fd%23%C3%A9"


def test_the_token_goes_along_and_is_read_anew_from_its_file(agent: Agent, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    consul = Config(token=Secret.from_file(file)).new(client)
    consul.register(service())
    file.write_text("second\n")
    consul.unregister(service())
    assert [asked.headers["X-Consul-Token"] for asked in agent.requests] == ["first", "second"]
    assert "first" not in (tmp_path / "log").read_text()


def test_a_refusal_says_what_the_agent_said(agent: Agent, client: Client) -> None:
    agent.status, agent.body = 403, b"Permission denied"
    consul = Config().new(client)
    with pytest.raises(RegistrarError, match=r"/v1/agent/service/register .* status 403: Permission denied"):
        consul.register(service())
    with pytest.raises(RegistrarError, match=r"/deregister/stator-123654 .* status 403: Permission denied"):
        consul.unregister(service())
