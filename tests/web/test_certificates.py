"""Which requests a client's certificate lets in."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stator.settings.paths import PathSet
from stator.web.certificates import ClientCertificateMiddleware, certificate_problem


@pytest.mark.parametrize(
    ("tls", "names", "problem"),
    [
        ({}, (), "it has no client certificate"),
        ({"client_cert_chain": []}, (), "it has no client certificate"),
        ({"client_cert_chain": ["PEM"]}, (), ""),
        ({"client_cert_chain": ["PEM"], "client_cert_names": ["a", "b"]}, ("b", "c"), ""),
        ({"client_cert_chain": ["PEM"], "client_cert_names": ["a"], "client_cert_name": "CN=a"}, ("b",), "of CN=a"),
        ({"client_cert_chain": ["PEM"]}, ("b",), "its certificate"),
    ],
)
def test_a_certificate_and_one_of_the_names_are_needed(tls: dict[str, Any], names: tuple[str], problem: str) -> None:
    found = certificate_problem(tls, frozenset(names))
    assert bool(found) == bool(problem)
    assert problem in found


KEY = "b3f1"


async def statuses(*paths: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> list[int]:
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    middleware = ClientCertificateMiddleware(app, frozenset(), PathSet(("/monitor", "/monitor/*")), KEY)
    for path in paths:
        await middleware({"type": "http", "path": path, "client": ("10.0.0.1", 1), "headers": headers}, receive, send)
    return [each["status"] for each in sent if each["type"] == "http.response.start"]


def test_only_what_is_below_an_open_path_needs_none() -> None:
    paths = ("/monitor", "/monitor/", "/monitor/live", "/metrics", "/monitors", "/x/monitor", "//monitor", "")
    assert asyncio.run(statuses(*paths)) == [200, 200, 200, 403, 403, 403, 403, 403]


def test_our_own_probes_need_none() -> None:
    assert asyncio.run(statuses("/metrics", headers=[(b"x-stator-probe", KEY.encode())])) == [200]
    assert asyncio.run(statuses("/metrics", headers=[(b"x-stator-probe", b"other")])) == [403]
