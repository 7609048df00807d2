"""What a real agent makes of a registration, setting by setting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from stator.client.config import ClientConfig
from stator.roster.consul.limits import service_problems
from stator.roster.consul.registrar import Consul as Registrar
from stator.roster.consul.registrar import ConsulConfig
from stator.roster.registrar import RegistrarError
from stator.roster.service import Service, ServiceConfig
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.certificates import Authority
from tests.fakes import Agent
from tests.integration.programs import Consul, eventually

EVERY = {"check_interval": Duration.parse("100ms"), "check_timeout": Duration.parse("5s")}
BuildRegistrar = Callable[..., Registrar]


@pytest.fixture
def build_registrar(consul: Consul, tmp_path: Path) -> Iterator[BuildRegistrar]:
    """Builds registrars with Consul's settings."""
    with CapturedLog(tmp_path / "log") as captured, ExitStack() as registrars:

        def build(**settings: Any) -> Registrar:
            client = ClientConfig(base_uri=consul.url).build(captured.log)
            return registrars.enter_context(closing(ConsulConfig(**settings).build(client)))

        yield build


def service(port: int = 8087, **settings: Any) -> Service:
    return ServiceConfig(**{"id": "1", "ip_address": "127.0.0.1", **settings}).build(port, "")


def reported(consul: Consul, id_: str = "stator-1") -> dict[str, Any]:
    service = consul.service(id_)
    assert service is not None
    return service


def test_names_address_tags_and_metadata(consul: Consul, build_registrar: BuildRegistrar) -> None:
    settings: dict[str, Any] = {"name": "api", "id": "a/b c?", "tags": ("dev", "metrics"), "meta": (("zone", "b=c"),)}
    build_registrar().register(service(**settings))
    seen = reported(consul, "api-a/b c?")
    assert (seen["Service"], seen["Address"], seen["Port"]) == ("api", "127.0.0.1", 8087)
    assert (seen["Tags"], seen["Meta"]) == (["dev", "metrics"], {"zone": "b=c"})
    build_registrar().unregister(service(**settings))
    assert consul.services() == {}


LIMITS: list[dict[str, Any]] = [
    *({"id": id_} for id_ in ("https://x.example.org/api", "a//b", "a/./b", "a/..", "a\nb", "\u202e")),
    *({"name": name} for name in ("/a", "./a", "maintenance/a", "deregister/a", "..", "register/a")),
    *({"id": id_} for id_ in ("a/", "/a", "..", "%2F", "a%b", "ä;?#&+=", "maintenance/a", "`")),
    *({"meta": ((key, "1"),)} for key in ("a.b", "consul-a", "Consul-a", "a" * 128, "a" * 129, "ä")),
    *({"meta": (("a", value),)} for value in ("b" * 512, "b" * 513, "ä" * 257)),
    *({"meta": tuple((f"key-{number}", "") for number in range(count))} for count in (64, 65)),
    *({"ip_address": address} for address in ("0.0.0.0", "::", "[::]", "stator.example", "a b")),
    *({"tagged_addresses": ((tag, "10.0.0.1"),)} for tag in ("lan_ipv4", "lan_ipv6", "lan", "a_ipv4")),
    {"tagged_addresses": (("wan_ipv4", "stator.example"),)},
]


def test_what_the_agent_can_not_do_is_reported_at_the_start_and_nothing_else(
    consul: Consul, build_registrar: BuildRegistrar
) -> None:
    registrar = build_registrar()
    for settings in LIMITS:
        config = ServiceConfig(**{"id": "1", "ip_address": "127.0.0.1"} | settings)
        assert does_register(registrar, config.build(8087, "")) == (list(service_problems(config)) == []), settings


def does_register(registrar: Registrar, ours: Service) -> bool:
    """Whether a service can be registered, observed and unregistered."""
    try:
        registrar.register(ours)
        problem = registrar.observe(ours).problem
        registrar.unregister(ours)
        return not problem and "not know" in registrar.observe(ours).problem
    except RegistrarError:
        return False


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
    seen = reported(consul)["TaggedAddresses"]
    assert {name: seen[name] for name, _ in tagged} == {
        "lan": {"Address": "10.0.0.1", "Port": 80},
        "wan": {"Address": "stator.example", "Port": 8087},
        "v6": {"Address": "2001:db8::1", "Port": 443},
    }


def test_headers_of_checks_are_received_but_not_logged(
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
def test_checks_of_our_own_tls_pass_if_they_skip_verification(
    consul: Consul, build_registrar: BuildRegistrar, untrusted: tuple[Path, Path], skip: bool, status: str
) -> None:
    with Agent(tls=untrusted) as us:
        ours = service(int(us.uri.rpartition(":")[2]), monitor_spec="https://%s:%d/monitor")
        build_registrar(check_skip_verify=skip, **EVERY).register(ours)
        check = eventually(lambda: next((each for each in consul.checks().values() if each["Output"]), None))
        assert check is not None
        assert check["Status"] == status


@pytest.fixture
def untrusted(tmp_path: Path) -> tuple[Path, Path]:
    return Authority(tmp_path / "authority").issue()


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


def test_registering_again_does_not_turn_a_failing_check_into_a_passing_one(
    consul: Consul, build_registrar: BuildRegistrar
) -> None:
    with Agent(status=500) as us:
        ours = service(int(us.uri.rpartition(":")[2]))
        build_registrar(**EVERY).register(ours)
        eventually(lambda: consul.checks()["service:stator-1"]["Status"] == "critical")
        build_registrar().register(ours)
        assert consul.checks()["service:stator-1"]["Status"] == "critical"


def test_unregistering_a_service_that_is_gone_already_succeeds(consul: Consul, build_registrar: BuildRegistrar) -> None:
    build_registrar().unregister(service())
    assert consul.services() == {}


def test_an_agent_without_namespaces_refuses_one(consul: Consul, build_registrar: BuildRegistrar) -> None:
    with pytest.raises(RegistrarError, match="Namespaces are a Consul Enterprise feature"):
        build_registrar(namespace="team-1").register(service())
    assert json.loads(consul.get("/v1/agent/services")) == {}
