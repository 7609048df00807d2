"""A registration is compared with what the agent reports, whatever fields it has."""

from typing import Any

import pytest

from stator.roster.consul.diff import differences

REGISTRATION: dict[str, Any] = {
    "ID": "a-1",
    "Name": "a",
    "Tags": ("dev", "metrics"),
    "Address": "127.0.0.1",
    "Port": 80,
    "Check": {"HTTP": "http://127.0.0.1:80/", "Interval": "1m0s"},
}
# As Consul 1.8.7 reports it.
REPORTED: dict[str, Any] = {
    "ID": "a-1",
    "Service": "a",
    "Tags": ["dev", "metrics"],
    "Meta": {},
    "Port": 80,
    "Address": "127.0.0.1",
    "TaggedAddresses": {"lan_ipv4": {"Address": "127.0.0.1", "Port": 80}},
    "Weights": {"Passing": 1, "Warning": 1},
    "EnableTagOverride": False,
    "ContentHash": "4812827fdb2c1391",
}
CHECKS: dict[str, Any] = {"service:a-1": {"CheckID": "service:a-1", "Type": "http", "Status": "critical"}}


def compare(
    registration: dict[str, Any] | None = None, reported: dict[str, Any] | None = None, checks: Any = CHECKS
) -> list[str]:
    return list(differences({**REGISTRATION, **(registration or {})}, {**REPORTED, **(reported or {})}, checks))


def test_a_service_that_is_reported_as_it_was_registered_does_not_differ() -> None:
    assert compare() == []


@pytest.mark.parametrize(
    ("registration", "reported"),
    [
        ({"Tags": ()}, {"Tags": None}),
        ({"Meta": {"zone": "a"}}, {"Meta": {"zone": "a"}}),
        # The agent adds addresses of its own.
        (
            {"TaggedAddresses": {"wan": {"Address": "10.0.0.1", "Port": 81}}},
            {"TaggedAddresses": {"wan": {"Address": "10.0.0.1", "Port": 81}, "lan_ipv4": {}}},
        ),
        ({"Weights": {"Passing": 5}}, {"Weights": {"Passing": 5, "Warning": 1}}),
        # An agent of another edition does not report all.
        ({"Partition": "team"}, {}),
    ],
)
def test_what_the_agent_adds_or_does_not_report_is_no_difference(
    registration: dict[str, Any], reported: dict[str, Any]
) -> None:
    assert compare(registration, reported) == []


@pytest.mark.parametrize(
    ("registration", "reported", "difference"),
    [
        ({}, {"Port": 81}, "Port is 81 instead of 80"),
        ({}, {"Service": "b"}, "Name is 'b' instead of 'a'"),
        ({}, {"Tags": ["metrics", "dev"]}, "Tags is ['metrics', 'dev'] instead of ('dev', 'metrics')"),
        ({}, {"Tags": None}, "Tags is None instead of ('dev', 'metrics')"),
        ({}, {"Meta": {"zone": "a"}}, "Meta is {'zone': 'a'} instead of {}"),
        ({"Meta": {"zone": "a"}}, {"Meta": {"zone": "a", "more": ""}}, "Meta is "),
        ({"Meta": {"zone": "a"}}, {"Meta": None}, "Meta is None instead of {'zone': 'a'}"),
        ({"Weights": {"Passing": 5}}, {}, "Weights is {'Passing': 1, 'Warning': 1} instead of {'Passing': 5}"),
        ({"TaggedAddresses": {"wan": {"Address": "10.0.0.1"}}}, {}, "TaggedAddresses is "),
        ({"EnableTagOverride": True}, {}, "EnableTagOverride is False instead of True"),
    ],
)
def test_each_field_that_differs_is_named(
    registration: dict[str, Any], reported: dict[str, Any], difference: str
) -> None:
    (only,) = compare(registration, reported)
    assert only.startswith(difference)


def test_a_check_that_is_missing_or_of_another_type_is_named() -> None:
    assert compare({"Check": {"CheckID": "own", "TTL": "10s"}}) == ["check own is missing"]
    assert compare(checks={}) == ["check service:a-1 is missing"]
    assert compare(checks={"service:a-1": {"Type": "ttl"}}) == ["check service:a-1 is of type ttl instead of http"]
    assert compare(checks={"service:a-1": {}}) == []
