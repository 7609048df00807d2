"""Stator in applications of every kind, each started with a server of its own and asked over HTTP."""

import json
import time

from prometheus_client.parser import text_string_to_metric_families

from tests.embedding.conftest import Served
from tests.program import eventually

LATE = "it did not answer in time"
OK = (200, b'{"status":"ok","checks":{"db":"ok","queue":"ok"}}')


def states(served: Served) -> dict[str, str]:
    """The state of each check, in the response of a failing /monitor."""
    answer = served.monitor()
    assert answer.status == 503, answer
    health = json.loads(answer.body)
    assert health["status"] == "failing"
    return dict(health["checks"])


def recovers(served: Served) -> None:
    for check in ("db", "queue"):
        served.let(check, "pass")
    eventually(lambda: served.at_work("db") + served.at_work("queue") == 0)
    eventually(lambda: served.monitor().status == 200)


def test_a_scrape_has_the_chosen_collectors_and_no_others(served: Served) -> None:
    families = {family.name: family for family in text_string_to_metric_families(served.metrics())}
    assert [sample.value for sample in families["orders_open"].samples] == [7]
    assert {sample.labels["collector"]: sample.value for sample in families["stator_collector_success"].samples} == {
        "runtime": 1,
        "orders": 1,
        "http_server": 1,
        "checks": 1,
    }


def test_an_answer_is_what_the_scraper_asks_for(served: Served) -> None:
    path = f"{served.where}/metrics?collect[]=orders"
    answer = served.get(path, {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"})
    assert (answer.status, answer.body[:2]) == (200, b"\x1f\x8b")
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert (headers["content-encoding"], headers["vary"]) == ("gzip", "Accept, Accept-Encoding")
    assert served.get(f"{served.where}/metrics?collect[]=nothing").status == 400


def test_other_paths_are_the_applications(served: Served) -> None:
    answer = served.get("/hello")
    assert answer.body != b'{"not":"found"}'
    assert (answer.status, answer.body) in [(200, b"hello"), (404, answer.body)]


def test_the_monitor_says_ok_while_all_checks_pass(served: Served) -> None:
    answer = served.monitor()
    assert (answer.status, answer.body) == OK


def test_a_check_that_raises_is_reported_with_its_reason_and_without_passwords(served: Served) -> None:
    served.let("db", "raise")
    reason = "ConnectionError: no route to postgres://--redacted--@db/shop"
    assert states(served) == {"db": reason, "queue": "ok"}
    served.let("queue", "raise")
    assert states(served) == {"db": reason, "queue": "ConnectionError: nobody listens"}
    assert "orders_open 7" in served.metrics()
    recovers(served)


def test_a_check_that_gives_false_fails(served: Served) -> None:
    served.let("db", "refuse")
    served.let("queue", "refuse")
    assert states(served) == {"db": "the check returned False", "queue": "the check returned False"}
    recovers(served)


def test_checks_that_hang_fail_in_time_and_hold_up_nothing_else(served: Served) -> None:
    served.let("db", "hang")
    served.let("queue", "hang")
    start = time.monotonic()
    assert states(served) == {"db": LATE, "queue": LATE}
    assert time.monotonic() - start > 1.5
    assert "orders_open 7" in served.metrics()
    recovers(served)
