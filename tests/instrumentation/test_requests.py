"""The metrics of requests, as a scrape has them."""

from typing import Any

import pytest

import stator
from stator.instrumentation.requests import RequestMetrics
from stator.instrumentation.store import LocalStore
from stator.points import LabelPairs, Point

KEY = ("GET", "http", "/items/{id}", 200, "")


def metrics(buckets: tuple[float, ...] = (0.1, 1.0), max_series: int = 10, **more: Any) -> RequestMetrics:
    return RequestMetrics(LocalStore(), buckets, max_series, **more)


def points(of: RequestMetrics, name: str) -> dict[LabelPairs, Any]:
    found: list[Point] = [point for point in of.collect(0.0).points if point.name == name]
    return {tuple(dict(point.labels).items()): point.value for point in found}


def durations(of: RequestMetrics) -> dict[tuple[str, ...], Any]:
    found = points(of, "http_server_request_duration_seconds")
    return {tuple(value for _, value in labels): histogram for labels, histogram in found.items()}


def test_a_histogram_has_cumulative_buckets_a_sum_and_a_count() -> None:
    requests = metrics()
    for seconds in (0.05, 0.1, 0.5, 3.0):
        requests.count(KEY, seconds)
    (histogram,) = durations(requests).values()
    assert (histogram.buckets, histogram.count) == (((0.1, 2), (1.0, 3)), 4)
    assert histogram.sum == pytest.approx(3.65)


def test_the_labels_are_those_of_opentelemetry() -> None:
    requests = metrics()
    requests.count(("GET", "https", "/items/{id}", 500, "shop.SoldOut"), 0.1)
    requests.count(("GET", "https", "", 0, ""), 0.1)
    assert list(points(requests, "http_server_request_duration_seconds")) == [
        (
            ("http_request_method", "GET"),
            ("url_scheme", "https"),
            ("http_route", "/items/{id}"),
            ("http_response_status_code", "500"),
            ("error_type", "shop.SoldOut"),
        ),
        (
            ("http_request_method", "GET"),
            ("url_scheme", "https"),
            ("http_route", ""),
            ("http_response_status_code", ""),
        ),
    ]


def test_requests_that_are_being_answered_are_counted_as_active() -> None:
    requests = metrics()
    _, _, first = requests.begin("GET", "http")
    requests.begin("GET", "http")
    assert requests.begin("get", "gopher")[:2] == ("_OTHER", "_OTHER")
    first.inc(-1)
    active = points(requests, "http_server_active_requests")
    assert {tuple(value for _, value in labels): value for labels, value in active.items()} == {
        ("GET", "http"): 1,
        ("_OTHER", "_OTHER"): 1,
    }


def test_methods_without_end_make_no_series_without_end() -> None:
    requests = metrics()
    for number in range(1000):
        requests.begin(f"M{number}", f"s{number}")
    assert len(points(requests, "http_server_active_requests")) == 1
    assert len(requests._begun) <= 1


def test_series_beyond_the_limit_count_under_another_route() -> None:
    requests = metrics(max_series=3)
    for number in range(100):
        requests.count(("GET", "http", f"/{number}", 200, ""), 0.1)
        requests.count(("GET", "http", "/0", 200, ""), 0.1)
    found = durations(requests)
    assert {labels[2]: histogram.count for labels, histogram in found.items()} == {
        "/0": 101,
        "/1": 1,
        "/2": 1,
        "_OTHER": 97,
    }


def test_excluded_templates_are_not_counted() -> None:
    requests = metrics(exclude=["/items/{id}"])
    requests.count(KEY, 0.1)
    requests.count(("GET", "http", "/items", 200, ""), 0.1)
    assert [labels[2] for labels in durations(requests)] == ["/items"]


def test_sizes_of_bodies_are_there_on_request() -> None:
    requests = metrics(has_sizes=True)
    requests.count(KEY, 0.1, 50, 5000)
    (received,) = points(requests, "http_server_request_body_size_bytes").values()
    (sent,) = points(requests, "http_server_response_body_size_bytes").values()
    assert (received.sum, received.buckets[0], sent.sum) == (50, (100.0, 1), 5000)
    assert points(metrics(), "http_server_request_body_size_bytes") == {}


def test_the_target_is_said_by_name_version_and_instance() -> None:
    target = (("service_name", "shop"), ("service_instance_id", "a"))
    assert points(metrics(target=target), "target_info") == {target: 1}


@pytest.mark.parametrize("text", ["0.1,0.1", "1,0.5", "0,1", "-1", "x", ",", "nan"])
def test_buckets_that_are_not_ascending_are_an_error_at_once(text: str) -> None:
    with pytest.raises(stator.ConfigError, match=r"STTR_METRICS_BUCKETS=.*: expected (ascending|a comma)"):
        stator.Stator(environ={"STTR_METRICS_BUCKETS": text})
