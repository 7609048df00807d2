"""Exemplars over four workers: each stands where its value belongs, and says what it was counted with."""

from collections.abc import Iterator
from functools import partial
from itertools import count
from math import inf
from random import Random

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.embedding.applications import gunicorn
from tests.embedding.conftest import Served
from tests.instrumentation.counting import together
from tests.program import eventually

CLIENTS, REQUESTS, SCRAPES, BUCKETS = 8, 20, 24, 4
APPLICATION = """
import stator

stator.share_metrics()

import os
import time

from flask import Flask, Response, request
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

app = Flask(__name__)
ORDERS = Counter("orders", "Orders taken", ["kind"])
SIZES = Histogram("sizes", "Things in an order", buckets=[1, 10, 100])


@app.post("/orders/<int:size>")
def order(size):
    exemplar = {"trace_id": request.headers["traceparent"].split("-")[1]}
    ORDERS.labels("large" if size > 50 else "small").inc(exemplar=exemplar)
    SIZES.observe(size, exemplar=exemplar)
    time.sleep(0.005)  # so that others get some too
    return str(os.getpid())


@app.get("/library")
def library():
    return Response(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)


app.wsgi_app = stator.wsgi_app(app.wsgi_app, collectors=["prometheus_client"])
"""


class Sent:
    """The orders that clients have sent: their sizes by trace, and the workers that took them."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.workers: set[int] = set()

    def send(self, served: Served, seed: int) -> None:
        """Sends orders of many sizes."""
        random = Random(seed)
        for _ in range(REQUESTS):
            size, trace = random.choice((0, 1, 2, 10, 11, 70, 100, 101, 5000)), f"{random.getrandbits(127) + 1:032x}"
            self.sizes[trace] = size
            answer = served.request("POST", f"/orders/{size}", headers={"traceparent": f"00-{trace}-{1:016x}-01"})
            assert answer.status == 200, served.errors
            self.workers.add(int(answer.body))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    command = gunicorn("-k=sync", "--workers=4")
    with Served(APPLICATION, command, tmp_path_factory.mktemp("embedding")) as running:
        eventually(running.ready, within=30)
        yield running


@pytest.fixture(scope="module")
def sent(served: Served) -> Sent:
    sent = Sent()
    seeds = count()

    def several_answer() -> bool:
        together([partial(sent.send, served, next(seeds)) for _ in range(CLIENTS)])
        return len(sent.workers) > 1

    eventually(several_answer, within=30)
    return sent


def scrapes(served: Served, path: str) -> list[list[Sample]]:
    """Many scrapes in OpenMetrics at the same time, so that several workers answer."""
    found: list[list[Sample]] = []

    def scrape() -> None:
        answer = served.get(path, {"Accept": "application/openmetrics-text; version=1.0.0"})
        families = text_string_to_metric_families(answer.body.decode())  # type: ignore[no-untyped-call]
        found.append([sample for family in families for sample in family.samples])

    for _ in range(SCRAPES // CLIENTS):
        together([scrape] * CLIENTS)
    assert len(found) == SCRAPES
    return found


def buckets(samples: list[Sample], name: str) -> Iterator[tuple[float, float, float, Sample]]:
    """The buckets of a histogram: bounds, how many values are in it alone, and the sample."""
    series: dict[str, str] = {}
    lower, below = -inf, 0.0
    for sample in samples:
        if sample.name == f"{name}_bucket":
            labels = {label: value for label, value in sample.labels.items() if label != "le"}
            if labels != series:
                lower, below, series = -inf, 0.0, labels
            yield lower, float(sample.labels["le"]), sample.value - below, sample
            lower, below = float(sample.labels["le"]), sample.value


@pytest.mark.parametrize("path", ["/metrics", "/library"])
def test_an_exemplar_of_a_bucket_is_a_value_that_is_in_it(served: Served, sent: Sent, path: str) -> None:
    shown = set[str]()

    def more_than_one_worker_has() -> bool:
        for samples in scrapes(served, path):
            for lower, upper, counted, sample in buckets(samples, "sizes"):
                if exemplar := sample.exemplar:
                    assert lower < exemplar.value <= upper
                    assert counted > 0
                    assert exemplar.value == sent.sizes[exemplar.labels["trace_id"]]
                    shown.add(exemplar.labels["trace_id"])
        return len(shown) > BUCKETS

    eventually(more_than_one_worker_has, within=30)


@pytest.mark.parametrize("path", ["/metrics", "/library"])
def test_an_exemplar_of_a_counter_is_one_of_its_own_series(served: Served, sent: Sent, path: str) -> None:
    shown = 0
    for samples in scrapes(served, path):
        for sample in samples:
            if sample.name == "orders_total" and sample.exemplar:
                size = sent.sizes[sample.exemplar.labels["trace_id"]]
                assert sample.labels["kind"] == ("large" if size > 50 else "small")
                shown += 1
    assert shown > 0


def test_an_exemplar_of_a_duration_is_a_request_of_its_series_within_its_bucket(served: Served, sent: Sent) -> None:
    shown = 0
    for samples in scrapes(served, "/metrics"):
        for lower, upper, counted, sample in buckets(samples, "http_server_request_duration_seconds"):
            if exemplar := sample.exemplar:
                assert lower < exemplar.value <= upper
                assert counted > 0
                assert exemplar.labels["trace_id"] in sent.sizes
                assert sample.labels["http_route"] == "/orders/<int:size>"
                shown += 1
    assert shown > 0
