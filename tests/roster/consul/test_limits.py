"""A service that Consul would refuse for ever is reported at the start."""

from typing import Any

import pytest

from stator.config import Config
from stator.roster.consul.limits import service_problems
from stator.roster.service import ServiceConfig
from stator.settings.declare import ConfigError
from tests.decoding import decode


def reported(**settings: Any) -> list[str]:
    return [name for name, _ in service_problems(ServiceConfig(**settings))]


@pytest.mark.parametrize("id_", ["https://x.example.org/api", "a//b", "a/./b", "a/../b", "a\nb", "a\u202eb", "\udcff"])
def test_an_id_or_a_name_that_consul_can_not_look_up_is_reported(id_: str) -> None:
    assert reported(id=id_) == ["id"]
    assert reported(name=id_, id="1") == ["name"]


@pytest.mark.parametrize("id_", ["a/.", "a/.."])
def test_an_id_that_ends_in_dots_is_reported(id_: str) -> None:
    assert reported(id=id_) == ["id"]


@pytest.mark.parametrize("name", ["/a", "/", "./a", "../a", "maintenance/a", "deregister/a"])
def test_a_name_that_leads_to_another_endpoint_is_reported(name: str) -> None:
    assert reported(name=name, id="1") == ["name"]


@pytest.mark.parametrize("id_", ["", "a/b c?", "a/", "/a", "a:b", "ä", "%2F", "a%b", "..", ".a/b.", "maintenance/a"])
def test_an_id_that_consul_can_look_up_is_accepted(id_: str) -> None:
    assert reported(id=id_) == []


@pytest.mark.parametrize(
    "pair",
    [
        ("spring.boot.version", "2.4"),
        ("", "a"),
        ("ä", "a"),
        ("a b", "a"),
        ("consul-a", "b"),
        ("a" * 129, ""),
        ("a", "b" * 513),
        ("a", "ä" * 257),
    ],
)
def test_metadata_that_consul_refuses_is_reported(pair: tuple[str, str]) -> None:
    assert reported(meta=(pair,)) == ["meta"]


def test_more_metadata_than_consul_keeps_is_reported() -> None:
    meta = [(f"key-{number}", "") for number in range(65)]
    assert reported(meta=tuple(meta)) == ["meta"]
    assert reported(meta=tuple(meta[:64])) == []


def test_metadata_within_the_limits_is_accepted() -> None:
    assert reported(meta=(("a_B-9" + "a" * 123, "ä" * 256), ("Consul-a", "b.c\n"))) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]"])
def test_an_address_that_stands_for_all_is_reported(address: str) -> None:
    assert reported(ip_address=address) == ["ip_address"]


def test_a_tagged_address_of_another_family_than_its_name_says_is_reported() -> None:
    assert reported(tagged_addresses=(("lan_ipv4", "stator.example"),)) == ["tagged_addresses"]
    assert reported(tagged_addresses=(("wan_ipv4", "[::1]:80"),)) == ["tagged_addresses"]
    assert reported(tagged_addresses=(("lan_ipv6", "10.0.0.1"),)) == ["tagged_addresses"]
    good = (("lan_ipv4", "10.0.0.1:80"), ("wan_ipv6", "[2001:db8::1]:443"), ("lan", "stator.example"))
    assert reported(tagged_addresses=good) == []


VARIABLES = {"STTR_ROSTER_SERVICE_META": "spring.boot.version=2.4"}
CONSUL = {"STTR_CLIENT_BASEURI": "http://localhost:8500"}


def test_they_are_reported_only_if_the_registrar_is_consul() -> None:
    with pytest.raises(ConfigError, match=r"STTR_ROSTER_SERVICE_META=.*: expected at most 64 pairs for Consul"):
        decode(Config, "STTR", VARIABLES | CONSUL)
    decode(Config, "STTR", VARIABLES)
    decode(Config, "STTR", VARIABLES | CONSUL | {"STTR_ROSTER_REGISTRAR": "none"})
