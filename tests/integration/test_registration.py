"""What a real agent makes of a registration, of each setting that has a say in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stator.client.config import ClientConfig
from stator.roster.consul.registrar import Consul as Registrar
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.registrar import RegistrarError
from stator.roster.service import Service, ServiceConfig
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.fakes import Agent
from tests.integration.programs import Consul, eventually

EVERY = {"check_interval": Duration.parse("100ms"), "check_timeout": Duration.parse("5s")}
BuildRegistrar = Callable[..., Registrar]


@pytest.fixture
def build_registrar(consul: Consul, tmp_path: Path) -> Iterator[BuildRegistrar]:
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


def reported(consul: Consul, id_: str = "stator-1") -> dict[str, Any]:
    shown = consul.service(id_)
    assert shown is not None
    return shown


def test_names_address_tags_and_metadata(consul: Consul, build_registrar: BuildRegistrar) -> None:
    settings: dict[str, Any] = {"name": "api", "id": "a/b c?", "tags": ("dev", "metrics"), "meta": (("zone", "b=c"),)}
    build_registrar().register(service(**settings))
    shown = reported(consul, "api-a/b c?")
    assert (shown["Service"], shown["Address"], shown["Port"]) == ("api", "127.0.0.1", 8087)
    assert (shown["Tags"], shown["Meta"]) == (["dev", "metrics"], {"zone": "b=c"})
    build_registrar().unregister(service(**settings))
    assert consul.services() == {}


def test_weights(consul: Consul, build_registrar: BuildRegistrar) -> None:
    weighty = service(weight_passing=10, weight_warning=0)
    build_registrar().register(weighty)
    assert reported(consul)["Weights"] == {"Passing": 10, "Warning": 0}
    assert build_registrar().observe(weighty).problem == ""
    build_registrar().register(service())
    assert reported(consul)["Weights"] == {"Passing": 1, "Warning": 1}


def test_tagged_addresses(consul: Consul, build_registrar: BuildRegistrar) -> None:
    tagged = (("lan", "10.0.0.1:80"), ("wan", "stator.example"), ("v6", "[2001:db8::1]:443"))
    build_registrar().register(service(tagged_addresses=tagged))
    assert build_registrar().observe(service(tagged_addresses=tagged)).problem == ""
    shown = reported(consul)["TaggedAddresses"]
    assert {name: shown[name] for name, _ in tagged} == {
        "lan": {"Address": "10.0.0.1", "Port": 80},
        "wan": {"Address": "stator.example", "Port": 8087},
        "v6": {"Address": "2001:db8::1", "Port": 443},
    }


def test_headers_of_checks_reach_us_but_not_the_log(
    consul: Consul, build_registrar: BuildRegistrar, tmp_path: Path
) -> None:
    with Agent() as us:
        headers = ("X-Probe", "hunter2", "X-Probe", "hunter3", "Authorization", "Bearer hunter4")
        build_registrar(check_headers=headers, **EVERY).register(service(int(us.uri.rpartition(":")[2])))
        asked = eventually(lambda: us.asked("/monitor"))[0]
        assert asked.headers.get_all("X-Probe") == ["hunter2", "hunter3"]
        assert asked.headers["Authorization"] == "Bearer hunter4"
        build_registrar().unregister(service())
    log = (tmp_path / "log").read_text()
    assert "X-Probe" in log
    assert "hunter" not in log


@pytest.mark.parametrize(("skip", "status"), [(True, "passing"), (False, "critical")])
def test_checks_of_our_own_tls_pass_where_they_may_skip_to_verify(
    consul: Consul, build_registrar: BuildRegistrar, self_signed: tuple[Path, Path], skip: bool, status: str
) -> None:
    with Agent(tls=self_signed) as us:
        ours = service(int(us.uri.rpartition(":")[2]), monitor_spec="https://%s:%d/monitor")
        build_registrar(check_skip_verify=skip, **EVERY).register(ours)
        check = eventually(lambda: next((each for each in consul.checks().values() if each["Output"]), None))
        assert check is not None
        assert check["Status"] == status


@pytest.fixture
def self_signed(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=stator")
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_the_check_that_another_kind_replaces_is_gone(consul: Consul, build_registrar: BuildRegistrar) -> None:
    with Agent(status=500) as us:
        ours = service(int(us.uri.rpartition(":")[2]))
        build_registrar(**EVERY).register(ours)
        eventually(lambda: consul.checks()["service:stator-1"]["Status"] == "critical")
        by_ttl = build_registrar(check="ttl")
        by_ttl.register(ours)
        assert by_ttl.observe(ours).problem == "check service:stator-1 is not wanted any more"
        by_ttl.register(ours, keep_checks=False)
        assert by_ttl.observe(ours).problem == ""
        assert [check["Type"] for check in consul.checks().values()] == ["ttl"]
        asked = len(us.requests)
        by_http = build_registrar(**EVERY)
        by_http.register(ours)
        assert by_http.observe(ours).problem == "check service:stator-1:ttl is not wanted any more"
        by_http.register(ours, keep_checks=False)
        assert by_http.observe(ours).problem == ""
        eventually(lambda: len(us.requests) > asked)


def test_a_registration_anew_does_not_turn_a_failing_check_into_a_passing_one(
    consul: Consul, build_registrar: BuildRegistrar
) -> None:
    with Agent(status=500) as us:
        ours = service(int(us.uri.rpartition(":")[2]))
        build_registrar(**EVERY).register(ours)
        eventually(lambda: consul.checks()["service:stator-1"]["Status"] == "critical")
        build_registrar().register(ours)
        assert consul.checks()["service:stator-1"]["Status"] == "critical"


def test_a_service_that_is_gone_already_is_taken_out(consul: Consul, build_registrar: BuildRegistrar) -> None:
    build_registrar().unregister(service())
    assert consul.services() == {}


def test_an_agent_without_namespaces_is_told_to_have_none(consul: Consul, build_registrar: BuildRegistrar) -> None:
    with pytest.raises(RegistrarError, match="Namespaces are a Consul Enterprise feature"):
        build_registrar(namespace="team-1").register(service())
    assert json.loads(consul.get("/v1/agent/services")) == {}
