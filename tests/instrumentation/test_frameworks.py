"""Requests to an application of each framework, under a real server, are counted by the templates of its routes."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.embedding.conftest import Served
from tests.instrumentation.applications import WRAPPED, Wrapped
from tests.instrumentation.scraping import Count, counts, samples
from tests.program import eventually


@pytest.fixture(scope="module", params=WRAPPED)
def wrapped(request: pytest.FixtureRequest) -> Wrapped:
    return WRAPPED[request.param]


@pytest.fixture(scope="module")
def served(wrapped: Wrapped, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("wrapped")
    with Served(wrapped.code, wrapped.command, folder, files=wrapped.files) as running:
        eventually(running.ready, within=30)
        yield running


def test_every_request_counts_once_under_its_template(served: Served, wrapped: Wrapped) -> None:
    expected: Counter[Count] = Counter()

    def ask(path: str, route: str, status: int = 200, method: str = "GET", error: str = "", label: str = "") -> None:
        assert served.request(method, path).status == status
        expected[label or method, route, str(status), error] += 1

    for number in range(3):
        ask(f"/items/{number}", wrapped.item)
        ask(f"/none/{number}", "", 404)
    ask("/items/3", wrapped.item, method="HEAD")
    ask("/items/4", wrapped.item, 405, "POST")
    ask("/items/5", wrapped.item, 405, "PROPFIND", label="_OTHER")
    ask("/broken", "/broken", 500)
    ask("/raises", "/raises", 500, error=wrapped.error)
    ask("/stream", "/stream")
    ask("/shop/bonn/things/hat", wrapped.shop)
    ask("/shop/bonn/none", "", 404)
    ask("/market/bonn/things/hat".replace("/bonn", "" if "town" not in wrapped.market else "/bonn"), wrapped.market)
    with served.dial() as leaving:
        leaving.sendall(b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        assert leaving.recv(10000)
    expected["GET", "/endless", "200", ""] += 1
    eventually(lambda: sum(counts(served.metrics()).values()) == expected.total())
    assert counts(served.metrics()) == expected
    active = samples(served.metrics(), "http_server_active_requests")
    assert set(active) >= {("GET", "http"), ("_OTHER", "http")}
    assert set(active.values()) == {0}


def test_a_duration_lasts_until_the_last_byte(served: Served) -> None:
    served.get("/stream")
    name = "http_server_request_duration_seconds"

    def whole() -> bool:
        sums, numbers = (
            sum(value for labels, value in samples(served.metrics(), f"{name}_{each}").items() if "/stream" in labels)
            for each in ("sum", "count")
        )
        return sums >= 0.03 * numbers > 0

    eventually(whole)


def test_every_answer_has_the_requests_id(served: Served) -> None:
    for path in ("/items/1", "/none", "/broken", "/stream"):
        headers = {name.lower(): value for name, value in served.get(path, {"X-Request-ID": "order/7"}).headers.items()}
        assert headers["x-request-id"] == "order/7"
