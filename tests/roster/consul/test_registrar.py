"""What Consul's agent is asked, in the words of the original."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stator.client.config import ClientConfig
from stator.client.logged import LoggedClient
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.registrar import Observation, RegistrarError
from stator.roster.service import Service, ServiceConfig
from stator.settings.declare import Secret
from stator.settings.dump import dump
from stator.settings.duration import LONGEST, Duration
from tests.captured_log import CapturedLog
from tests.fakes import OK, Agent, MisbehavingServer, drips
from tests.program import eventually

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
    return config.build(8087, "http://localhost:8500")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as running:
        yield running


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def client(agent: Agent, captured: CapturedLog) -> Iterator[LoggedClient]:
    with closing(ClientConfig(base_uri=agent.uri, timeout=Duration.parse("5s")).build(captured.log)) as client:
        yield client


def test_registers_with_the_words_of_the_original(agent: Agent, client: LoggedClient) -> None:
    ConsulConfig().build(client).register(service())
    (asked,) = agent.requests
    assert (asked.method, asked.path) == ("PUT", "/v1/agent/service/register")
    assert json.loads(asked.body) == REGISTRATION
    assert "X-Consul-Token" not in asked.headers


def test_registers_with_what_is_configured(agent: Agent, client: LoggedClient) -> None:
    config = ConsulConfig(Duration.parse("1s"), Duration.parse("250ms"), Duration.parse("1m30s"))
    config.build(client).register(service(meta=(("version", "1.2"), ("zone", "a=b"))))
    body = json.loads(agent.requests[0].body)
    assert body["Meta"] == {"version": "1.2", "zone": "a=b"}
    assert body["Check"] == {
        "Status": "passing",
        "HTTP": "http://127.0.0.1:8087/monitor",
        "Interval": "1s",
        "Timeout": "250ms",
        "DeregisterCriticalServiceAfter": "1m30s",
    }


def test_a_check_by_ttl_holds_longer_than_one_report_that_is_missed(agent: Agent, client: LoggedClient) -> None:
    config = ConsulConfig(Duration.parse("20s"), Duration.parse("5s"), check="ttl", check_headers=("X-A", "b"))
    config.build(client).register(service())
    assert json.loads(agent.requests[0].body)["Check"] == {
        "CheckID": "service:stator-123654:ttl",
        "Status": "passing",
        "TTL": "50s",
        "DeregisterCriticalServiceAfter": "30m0s",
    }


def test_the_longest_durations_make_a_ttl_that_consul_can_read() -> None:
    longest = Duration(LONGEST)
    assert ConsulConfig(longest, longest).ttl == longest


def test_every_request_goes_into_the_namespace_and_the_partition(
    agent: Agent, client: LoggedClient, captured: CapturedLog
) -> None:
    config = ConsulConfig(namespace="team-1", partition="eu", check="ttl")
    with closing(config.build(client, config.heartbeat(captured.log))) as consul:
        consul.register(service())
        eventually(lambda: agent.asked("/v1/agent/check/update/"))
        consul.observe(service())
        consul.unregister(service())
    assert [asked.path.partition("?")[0] for asked in agent.requests] == [
        "/v1/agent/service/register",
        "/v1/agent/check/update/service%3Astator-123654%3Attl",
        "/v1/agent/service/stator-123654",
        "/v1/agent/checks",
        "/v1/agent/service/deregister/stator-123654",
    ]
    for asked in agent.requests:
        assert asked.path.endswith(("?ns=team-1&partition=eu", "&ns=team-1&partition=eu"))


def test_no_health_is_reported_after_the_end_of_one_that_stays_registered(
    agent: Agent, client: LoggedClient, captured: CapturedLog
) -> None:
    config = ConsulConfig(check="ttl")
    with closing(config.build(client, config.heartbeat(captured.log))) as consul:
        consul.register(service())
        eventually(lambda: agent.asked("/v1/agent/check/update/"))
    assert captured.lines_with("worker stopped")


@pytest.mark.parametrize("name", ["a b", "-a", "a-", "a/b", "ä", "a" * 65, "a&b=c"])
@pytest.mark.parametrize("setting", ["namespace", "partition"])
def test_a_name_that_consul_would_refuse_is_reported(setting: str, name: str) -> None:
    settings: dict[str, Any] = {setting: name}
    with pytest.raises(ValueError, match=f"{setting}='{name}': expected a name of letters"):
        ConsulConfig(**settings)


@pytest.mark.parametrize("words", [("X A", "b"), ("X-A", "b\nc"), ("", "b")])
def test_check_headers_that_can_not_be_sent_are_reported_without_their_values(words: tuple[str, ...]) -> None:
    config = ConsulConfig(check_headers=words)
    assert [name for name, _ in config.problems()] == ["check_headers"]
    assert dump(config)["check_headers"] == [words[0], "--redacted--"]


def test_unregisters_by_id(agent: Agent, client: LoggedClient) -> None:
    ConsulConfig().build(client).unregister(service())
    (asked,) = agent.requests
    assert (asked.method, asked.path) == ("PUT", "/v1/agent/service/deregister/stator-123654")
    assert asked.body == b""


def test_an_id_of_any_letters_is_unregistered(agent: Agent, client: LoggedClient) -> None:
    ConsulConfig().build(client).unregister(service("a/b c?d#é"))
    assert agent.requests[0].path == "/v1/agent/service/deregister/stator-a%2Fb%20c%3Fd%23%C3%A9"


def test_the_token_is_sent_and_read_from_its_file_each_time(agent: Agent, client: LoggedClient, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    consul = ConsulConfig(token=Secret.from_file(file)).build(client)
    consul.register(service())
    file.write_text("second\n")
    consul.unregister(service())
    assert [asked.headers["X-Consul-Token"] for asked in agent.requests] == ["first", "second"]
    assert "first" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("answer", [(500, b'Unknown service {"stator-123654" {}}'), (404, b'Unknown service ID "a".')])
def test_unregistering_a_service_that_is_gone_already_succeeds(
    agent: Agent, client: LoggedClient, answer: tuple[int, bytes]
) -> None:
    agent.status, agent.body = answer
    ConsulConfig().build(client).unregister(service())
    with pytest.raises(RegistrarError, match="Unknown service"):
        ConsulConfig().build(client).register(service())


NEWER = b"Permission denied: token with AccessorID 'a1b2' lacks permission 'service:write' on \"stator\""


@pytest.mark.parametrize(
    ("token", "body", "said"),
    [
        ("s3cret", b"Permission denied", 'the token lacks service:write on "stator": PUT http'),
        ("s3cret", NEWER, 'the token lacks service:write on "stator": PUT http'),
        ("s3cret", b"ACL not found", "Consul has no such token as STTR_CONSUL_TOKEN: PUT http"),
        ("", b"Permission denied", "STTR_CONSUL_TOKEN is not set, and the anonymous token lacks service:write on"),
    ],
)
def test_a_403_says_what_is_missing(agent: Agent, client: LoggedClient, token: str, body: bytes, said: str) -> None:
    agent.status, agent.body = 403, body
    with pytest.raises(RegistrarError) as raised:
        ConsulConfig(token=Secret(token)).build(client).register(service())
    assert str(raised.value).startswith(said)
    assert str(raised.value).endswith(f"was answered with status 403: {body.decode()}")
    assert "s3cret" not in str(raised.value)


def test_a_changed_token_is_a_problem_until_the_service_is_registered_with_it(
    agent: Agent, client: LoggedClient, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    with closing(ConsulConfig(token=Secret.from_file(file)).build(client)) as consul:
        consul.register(service())
        assert consul.observe(service()).problem == ""
        file.write_text("second")
        assert consul.observe(service()).problem == "the token has changed"
        consul.register(service())
        assert consul.observe(service()).problem == ""
    assert "first" not in (tmp_path / "log").read_text()


def test_an_observation_that_is_refused_says_which_permission_is_missing(agent: Agent, client: LoggedClient) -> None:
    agent.status, agent.body = 403, b"Permission denied"
    with closing(ConsulConfig(token=Secret("s3cret")).build(client)) as consul:
        with pytest.raises(RegistrarError, match='the token lacks service:read on "stator": GET http') as raised:
            consul.observe(service())
        assert raised.value.reason == "denied"


def test_a_refusal_quotes_the_agent(agent: Agent, client: LoggedClient) -> None:
    agent.status, agent.body = 403, b"Permission denied"
    consul = ConsulConfig().build(client)
    with pytest.raises(RegistrarError, match=r"/v1/agent/service/register .* status 403: Permission denied"):
        consul.register(service())
    with pytest.raises(RegistrarError, match=r"/deregister/stator-123654 .* status 403: Permission denied"):
        consul.unregister(service())


def test_a_registered_service_has_no_problem_and_another_is_unknown(agent: Agent, client: LoggedClient) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        assert consul.observe(service()).problem == "the agent does not know the service"
        consul.register(service())
        assert consul.observe(service()) == Observation("", "1")


def test_an_observation_waits_for_another_version_than_the_given_one(agent: Agent, client: LoggedClient) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service())
        consul.observe(service(), since="1 2", wait=2.5)
    assert agent.asked("/v1/agent/service/stator-123654")[0].path.endswith("?hash=1+2&wait=2500ms")


def test_a_wait_of_less_than_a_millisecond_is_not_taken_for_the_longest(agent: Agent, client: LoggedClient) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service())
        consul.observe(service(), since="1 2", wait=0.0004)
    assert agent.asked("/v1/agent/service/stator-123654")[0].path.endswith("&wait=1ms")


def test_a_change_by_somebody_else_is_a_problem_and_an_operators_maintenance_is_to_be_kept(
    agent: Agent, client: LoggedClient
) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service())
        agent.services["stator-123654"]["Port"] = 1
        seen = consul.observe(service())
        assert (seen.problem, seen.keep_checks) == ("Port is 1 instead of 8087", False)
        agent.maintained.add("stator-123654")
        assert consul.observe(service()).keep_checks


def test_a_registration_replaces_checks_unless_they_are_to_be_kept(agent: Agent, client: LoggedClient) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service(), keep_checks=True)
        consul.register(service(), keep_checks=False)
    first, second = agent.requests
    assert first.path == "/v1/agent/service/register"
    assert second.path == "/v1/agent/service/register?replace-existing-checks=true"


@pytest.mark.parametrize(
    "answer", [b"", b"404 page not found", b"Invalid URL path: not a recognized HTTP API endpoint"]
)
def test_an_agent_that_can_not_be_asked_for_one_service_is_asked_for_all(
    agent: Agent, client: LoggedClient, answer: bytes
) -> None:
    agent.no_such_endpoint = answer
    with closing(ConsulConfig().build(client)) as consul:
        assert consul.observe(service()).problem == "the agent does not know the service"
        consul.register(service())
        assert consul.observe(service()) == Observation("", "")


@pytest.mark.parametrize("id_", ["a/b c?d#é", "`", '"', "a`b\\"])
def test_a_service_with_an_id_of_any_letters_is_observed(agent: Agent, client: LoggedClient, id_: str) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service(id_))
        assert consul.observe(service(id_)) == Observation("", "1")


UNEXPECTED = [
    *(("service", body) for body in (b"", b"{", b"[]", b"null", b'"text"', b"\xff", b'{"Tags":5}', b'{"Meta":["a"]}')),
    *(("service", body) for body in (b'{"Port":"80"}', b'{"TaggedAddresses":{"lan":"10.0.0.1"}}', b'{"Weights":7}')),
    *(("checks", body) for body in (b"[]", b'{"service:stator-123654":"passing"}', b'{"a":{"ServiceID":1}}')),
    ("service", b'{"a":' * 5000),
]


@pytest.mark.parametrize(("endpoint", "body"), UNEXPECTED)
def test_an_answer_of_unexpected_json_is_an_invalid_one_that_is_quoted(
    agent: Agent, client: LoggedClient, endpoint: str, body: bytes
) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service())
        agent.answers[endpoint] = body
        with pytest.raises(RegistrarError, match=rf"/v1/agent/{endpoint}\S* was answered with '") as raised:
            consul.observe(service())
    assert raised.value.reason == "invalid"


def test_an_agent_whose_trailers_trickle_is_a_timeout(captured: CapturedLog) -> None:
    trickle = drips(b"X: y\r\n", start=OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    with MisbehavingServer(trickle) as server:
        config = ClientConfig(base_uri=server.uri, timeout=Duration.parse("200ms"))
        consul = ConsulConfig().build(config.build(captured.log))
        with closing(consul), pytest.raises(RegistrarError, match="timed out") as raised:
            consul.observe(service())
    assert raised.value.reason == "timeout"


def test_fields_that_are_not_known_are_no_problem(agent: Agent, client: LoggedClient) -> None:
    with closing(ConsulConfig().build(client)) as consul:
        consul.register(service())
        agent.services["stator-123654"] |= {"Peering": {"New": [1]}, "Tags": ["dev", "metrics"], "Proxy": None}
        assert consul.observe(service()).problem == ""


def test_a_blocked_observation_ends_when_it_is_cancelled_and_the_service_can_still_be_unregistered(
    agent: Agent, client: LoggedClient
) -> None:
    agent.patience = 30.0
    with closing(ConsulConfig().build(client)) as consul, ThreadPoolExecutor(1) as pool:
        consul.register(service())
        waiting = pool.submit(consul.observe, service(), since="1", wait=60.0)
        eventually(lambda: agent.asked("/v1/agent/service/stator-123654"))
        start = time.monotonic()
        consul.cancel()
        with pytest.raises(RegistrarError):
            waiting.result(5)
        assert time.monotonic() - start < 1
        consul.unregister(service())
    assert agent.services == {}
