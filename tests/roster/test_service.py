"""The names and addresses under which a service is registered."""

import socket
from typing import Any

import pytest

from stator.roster.service import ServiceConfig, look_up


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_the_names_and_addresses_of_the_original() -> None:
    config = ServiceConfig(id="123654", tags=("dev", "metrics"), ip_address="127.0.0.1")
    service = config.build(8087, "http://localhost:8500")
    assert (service.id, service.name, service.tags) == ("stator-123654", "stator", ("dev", "metrics"))
    assert (service.address, service.port) == ("127.0.0.1", 8087)
    assert service.monitor_url == "http://127.0.0.1:8087/monitor"


def test_without_an_id_it_is_known_by_host_and_port() -> None:
    assert ServiceConfig(ip_address="10.0.0.1").build(9090, "").id == f"stator-{socket.gethostname()}-9090"


def test_another_port_can_be_registered_than_the_one_that_answers() -> None:
    service = ServiceConfig(ip_address="10.0.0.1", port=80, meta=(("team", "shop"),)).build(8087, "")
    assert (service.port, service.metrics_port) == (80, 8087)
    assert service.id == f"stator-{socket.gethostname()}-80"
    assert service.monitor_url == "http://10.0.0.1:8087/monitor"
    assert dict(service.meta) == {"metrics_port": "8087", "team": "shop"}
    same = ServiceConfig(ip_address="10.0.0.1", port=8087).build(8087, "")
    assert (same.port, same.meta) == (8087, ())


def test_an_ipv6_address_stands_in_brackets_in_a_url_and_without_as_an_address() -> None:
    service = ServiceConfig(ip_address="2001:db8::1").build(8087, "")
    assert service.address == "2001:db8::1"
    assert service.monitor_url == "http://[2001:db8::1]:8087/monitor"


def test_the_monitor_endpoint_can_be_elsewhere() -> None:
    spec = "https://%s:%d/health%%20check?deep=1"
    assert ServiceConfig(ip_address="a.example", monitor_spec=spec).build(443, "").monitor_url == (
        "https://a.example:443/health%20check?deep=1"
    )


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:8500", "http://127.0.0.1", "https://127.0.0.1/consul", "http://localhost:8500"]
)
def test_the_address_is_the_one_used_toward_the_discovery_service(uri: str) -> None:
    assert look_up(uri) in ("127.0.0.1", "::1")


def test_the_address_toward_another_loopback_address_is_that_of_loopback() -> None:
    assert look_up("http://127.8.9.10:8500").startswith("127.")


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_the_address_toward_an_ipv6_discovery_service_is_ipv6() -> None:
    assert look_up("http://[::1]:8500") == "::1"
    assert ServiceConfig().build(8087, "http://[::1]:8500").monitor_url == "http://[::1]:8087/monitor"


def test_nothing_needs_to_listen_at_the_discovery_service() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert look_up(f"http://127.0.0.1:{silent.getsockname()[1]}") == "127.0.0.1"


def test_a_discovery_service_without_address_fails_the_look_up() -> None:
    with pytest.raises(OSError, match=r"not known|resolution"):
        look_up("http://nowhere.invalid:8500")


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "monitor",
        "http://%s/monitor",
        "http://%s:%d/%s",
        "http://%d:%s/monitor",
        "http://%s:%d/%",
        "http://%(host)s:%(port)d/",
        "http://%s:%d0000/",
        "ftp://%s:%d/",
        "%s:%d/monitor",
        "http://host:80/monitor",
    ],
)
def test_a_monitor_spec_that_gives_no_url_is_reported(spec: str) -> None:
    ((name, expected),) = ServiceConfig(monitor_spec=spec).problems()
    assert name == "monitor_spec"
    assert "http://%s:%d/monitor" in expected


@pytest.mark.parametrize("spec", ["http://%s:%d/monitor", "https://%s:%d", "http://%s:%d/a?b=%%20"])
def test_a_monitor_spec_that_gives_a_url_is_good(spec: str) -> None:
    assert list(ServiceConfig(monitor_spec=spec).problems()) == []


def test_an_empty_name_or_address_is_reported() -> None:
    assert [name for name, _ in ServiceConfig(name="", ip_address="").problems()] == ["name", "ip_address"]


def test_our_own_url_is_where_we_listen_whatever_others_use() -> None:
    config = ServiceConfig(ip_address="203.0.113.7", monitor_spec="https://%s:%d/health")
    assert config.build(8087, "").own_url == "http://127.0.0.1:8087/monitor"
    assert config.build(8087, "", "10.0.0.1").own_url == "http://10.0.0.1:8087/monitor"
    assert config.build(8087, "", "::1").own_url == "http://[::1]:8087/monitor"


def test_what_serves_https_is_registered_so() -> None:
    service = ServiceConfig(ip_address="10.0.0.1").build(8087, "", scheme="https")
    assert service.monitor_url == "https://10.0.0.1:8087/monitor"
    assert service.own_url == "https://127.0.0.1:8087/monitor"
    assert service.meta == (("metrics_scheme", "https"),)
    wrapped = ServiceConfig(ip_address="10.0.0.1", port=80, meta=(("metrics_scheme", "other"),))
    assert dict(wrapped.build(8087, "", scheme="https").meta) == {"metrics_port": "8087", "metrics_scheme": "other"}


def test_a_monitor_spec_of_the_users_own_stays() -> None:
    config = ServiceConfig(ip_address="10.0.0.1", monitor_spec="http://%s:%d/health")
    assert config.build(8087, "", scheme="https").monitor_url == "http://10.0.0.1:8087/health"


def test_tagged_addresses_have_our_port_where_they_name_none() -> None:
    tagged = (("lan", "10.0.0.1:80"), ("wan", "a.example"), ("v6", "[2001:db8::1]:443"), ("local", "[::1]"))
    assert ServiceConfig(ip_address="127.0.0.1", tagged_addresses=tagged).build(8087, "").tagged_addresses == (
        ("lan", "10.0.0.1", 80),
        ("wan", "a.example", 8087),
        ("v6", "2001:db8::1", 443),
        ("local", "::1", 8087),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "a:",
        "a:0",
        "a:65536",
        "a:b",
        "2001:db8::1",
        "[::1",
        "[a]",
        "[::1]80",
        "http://a",
        "a/b",
        "me@a",
        "a b",
    ],
)
def test_a_tagged_address_that_is_none_is_reported(text: str) -> None:
    ((name, expected),) = ServiceConfig(tagged_addresses=(("lan", text),)).problems()
    assert name == "tagged_addresses"
    assert "[2001:db8::1]:8087" in expected


def test_a_tag_that_two_addresses_have_is_reported() -> None:
    twice = (("lan", "10.0.0.1"), ("lan", "10.0.0.2"))
    assert [name for name, _ in ServiceConfig(tagged_addresses=twice).problems()] == ["tagged_addresses"]


@pytest.mark.parametrize(
    ("setting", "value"), [("weight_passing", 0), ("weight_passing", 65536), ("weight_warning", -1)]
)
def test_a_weight_that_consul_would_refuse_is_reported(setting: str, value: int) -> None:
    settings: dict[str, Any] = {setting: value}
    with pytest.raises(ValueError, match=f"{setting}={value}: expected an integer from"):
        ServiceConfig(**settings)
