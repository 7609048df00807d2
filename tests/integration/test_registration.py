"""What a real agent makes of a registration, of each setting that has a say in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stator.client.client import ClientConfig
from stator.roster.consul.registrar import Consul as Registrar
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.registrar import RegistrarError
from stator.roster.service import Service, ServiceConfig
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.fakes import Agent
from tests.integration.programs import Consul, eventually

EVERY = {"check_interval": Duration.parse("100ms"), "check_timeout": Duration.parse("5s")}
Registers = Callable[..., Registrar]


@pytest.fixture
def registers(consul: Consul, tmp_path: Path) -> Iterator[Registers]:
    """Makes registrars with settings of Consul's part."""
    made: list[Registrar] = []

    def register(**settings: Any) -> Registrar:
        made.append(ConsulConfig(**settings).build(ClientConfig(base_uri=consul.url).build(story.log)))
        return made[-1]

    with CapturedLog(tmp_path / "log") as story:
        yield register
        for each in made:
            each.close()


def service(port: int = 8087, **settings: Any) -> Service:
    return ServiceConfig(**{"id": "1", "ip_address": "127.0.0.1", **settings}).build(port, "")


def as_shown(consul: Consul, id_: str = "stator-1") -> dict[str, Any]:
    shown = consul.service(id_)
    assert shown is not None
    return shown


def test_names_address_tags_and_metadata(consul: Consul, registers: Registers) -> None:
    settings: dict[str, Any] = {"name": "api", "id": "a/b c?", "tags": ("dev", "metrics"), "meta": (("zone", "b=c"),)}
    registers().register(service(**settings))
    shown = as_shown(consul, "api-a/b c?")
    assert (shown["Service"], shown["Address"], shown["Port"]) == ("api", "127.0.0.1", 8087)
    assert (shown["Tags"], shown["Meta"]) == (["dev", "metrics"], {"zone": "b=c"})
    registers().unregister(service(**settings))
    assert consul.services() == {}


def test_weights(consul: Consul, registers: Registers) -> None:
    weighty = service(weight_passing=10, weight_warning=0)
    registers().register(weighty)
    assert as_shown(consul)["Weights"] == {"Passing": 10, "Warning": 0}
    assert registers().look(weighty).wrong == ""
    registers().register(service())
    assert as_shown(consul)["Weights"] == {"Passing": 1, "Warning": 1}


def test_tagged_addresses(consul: Consul, registers: Registers) -> None:
    tagged = (("lan", "10.0.0.1:80"), ("wan", "stator.example"), ("v6", "[2001:db8::1]:443"))
    registers().register(service(tagged_addresses=tagged))
    assert registers().look(service(tagged_addresses=tagged)).wrong == ""
    shown = as_shown(consul)["TaggedAddresses"]
    assert {name: shown[name] for name, _ in tagged} == {
        "lan": {"Address": "10.0.0.1", "Port": 80},
        "wan": {"Address": "stator.example", "Port": 8087},
        "v6": {"Address": "2001:db8::1", "Port": 443},
    }


def test_headers_of_checks_reach_us_but_not_the_log(consul: Consul, registers: Registers, tmp_path: Path) -> None:
    with Agent() as us:
        headers = ("X-Probe", "hunter2", "X-Probe", "hunter3", "Authorization", "Bearer hunter4")
        registers(check_headers=headers, **EVERY).register(service(int(us.uri.rpartition(":")[2])))
        asked = eventually(lambda: us.asked("/monitor"))[0]
        assert asked.headers.get_all("X-Probe") == ["hunter2", "hunter3"]
        assert asked.headers["Authorization"] == "Bearer hunter4"
        registers().unregister(service())
    log = (tmp_path / "log").read_text()
    assert "X-Probe" in log
    assert "hunter" not in log


@pytest.mark.parametrize(("skip", "status"), [(True, "passing"), (False, "critical")])
def test_checks_of_our_own_tls_pass_where_they_may_skip_to_verify(
    consul: Consul, registers: Registers, self_signed: tuple[Path, Path], skip: bool, status: str
) -> None:
    with Agent(tls=self_signed) as us:
        ours = service(int(us.uri.rpartition(":")[2]), monitor_spec="https://%s:%d/monitor")
        registers(check_skip_verify=skip, **EVERY).register(ours)
        check = eventually(lambda: next((each for each in consul.checks().values() if each["Output"]), None))
        assert check is not None
        assert check["Status"] == status


@pytest.fixture
def self_signed(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stator")
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_the_check_that_another_kind_replaces_is_gone(consul: Consul, registers: Registers) -> None:
    with Agent(status=500) as us:
        ours = service(int(us.uri.rpartition(":")[2]))
        registers(**EVERY).register(ours)
        eventually(lambda: consul.checks()["service:stator-1"]["Status"] == "critical")
        by_ttl = registers(check="ttl")
        by_ttl.register(ours)
        assert by_ttl.look(ours).wrong == "check service:stator-1 is not wanted any more"
        by_ttl.register(ours, keep=False)
        assert by_ttl.look(ours).wrong == ""
        assert [check["Type"] for check in consul.checks().values()] == ["ttl"]
        asked = len(us.requests)
        by_http = registers(**EVERY)
        by_http.register(ours)
        assert by_http.look(ours).wrong == "check service:stator-1:ttl is not wanted any more"
        by_http.register(ours, keep=False)
        assert by_http.look(ours).wrong == ""
        eventually(lambda: len(us.requests) > asked)


def test_a_registration_anew_does_not_turn_a_failing_check_into_a_passing_one(
    consul: Consul, registers: Registers
) -> None:
    with Agent(status=500) as us:
        ours = service(int(us.uri.rpartition(":")[2]))
        registers(**EVERY).register(ours)
        eventually(lambda: consul.checks()["service:stator-1"]["Status"] == "critical")
        registers().register(ours)
        assert consul.checks()["service:stator-1"]["Status"] == "critical"


def test_a_service_that_is_gone_already_is_taken_out(consul: Consul, registers: Registers) -> None:
    registers().unregister(service())
    assert consul.services() == {}


def test_an_agent_without_namespaces_is_told_to_have_none(consul: Consul, registers: Registers) -> None:
    with pytest.raises(RegistrarError, match="Namespaces are a Consul Enterprise feature"):
        registers(namespace="team-1").register(service())
    assert json.loads(consul.get("/v1/agent/services")) == {}
