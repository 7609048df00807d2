"""Processes that name the same group share metrics, whatever they are and whoever started them."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

import stator
from tests.instrumentation.conftest import StartService
from tests.instrumentation.processes import LIBRARY, Service
from tests.program import ROOT

HITS = 'hits = Counter("hits", "h")'


@pytest.fixture
def group() -> str:
    return f"tests-{uuid4()}"


def prelude(group: str) -> str:
    return f"import stator; stator.share_metrics(group={group!r})\n{LIBRARY}\n{HITS}"


def test_programs_of_a_group_have_one_sum_and_others_have_their_own(start_service: StartService, group: str) -> None:
    first, second = start_service(prelude=prelude(group)), start_service(prelude=prelude(group))
    other = start_service(prelude=prelude(f"{group}-other"))
    for service, amount in ((first, 1), (second, 2), (other, 4)):
        service.run(f"hits.inc({amount})")
    for service, expected in ((first, 3), (second, 3), (other, 4)):
        assert service.samples()["hits_total"] == expected


def test_what_an_ended_job_counted_stays_while_another_is_there(start_service: StartService, group: str) -> None:
    shop = start_service(prelude=prelude(group))
    assert shop.samples()["hits_total"] == 0  # it is there
    code = f"{prelude(group)}\nhits.inc(5)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=30)
    assert shop.samples()["hits_total"] == 15


def test_the_variable_names_the_group(start_service: StartService, group: str) -> None:
    shop = start_service(prelude=prelude(group))
    assert shop.samples()["hits_total"] == 0  # it is there
    code = f"import stator; stator.share_metrics()\n{LIBRARY}\n{HITS}\nhits.inc(5)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "STTR_METRICS_GROUP": group}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=30)
    assert shop.samples()["hits_total"] == 5


def test_nothing_is_left_when_all_have_ended(group: str) -> None:
    code = f"{prelude(group)}\nhits.inc()\nprint(REGISTRY.get_sample_value('hits_total'))"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=30, check=True
        )
        assert (done.stdout, done.stderr) == ("1.0\n", "")


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", "x" * 65])
def test_a_group_that_is_no_name_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = "expected a name of up to 64 letters, digits, dots, dashes and underscores"
    with pytest.raises(stator.ConfigError) as refused:
        stator.share_metrics(group=name)
    assert refused.value.problems == [f"group={name!r}: {expected}"]
    monkeypatch.setenv("STTR_METRICS_GROUP", name)
    with pytest.raises(stator.ConfigError) as refused:
        stator.share_metrics()
    assert refused.value.problems == [f"STTR_METRICS_GROUP={name!r}: {expected}"]


DEPTH = "depth = Gauge('depth', 'd')"


def named(group: str, worker: str) -> str:
    return f"import stator; stator.share_metrics(group={group!r}, worker={worker!r})\n{LIBRARY}\n{DEPTH}\n{HITS}"


@pytest.fixture
def start_in_turn(start_service: StartService) -> StartService:
    """Starts a service, and waits until it shares metrics: rows are given in the order of coming."""

    def start(code: str = "", *, prelude: str = "") -> Service:
        service = start_service(code, prelude=prelude)
        service.samples()
        return service

    return start


def test_a_process_has_the_name_that_it_was_given(start_in_turn: StartService, group: str) -> None:
    shop, mailer = start_in_turn(DEPTH, prelude=prelude(group)), start_in_turn(prelude=named(group, "mailer"))
    shop.run("depth.set(2)")
    mailer.run("depth.set(3)")
    expected = {'depth{worker="1"}': 2, 'depth{worker="mailer"}': 3, "hits_total": 0}
    assert shop.samples() == mailer.samples() == expected


def test_a_successor_takes_over_the_name_and_the_counts(start_in_turn: StartService, group: str) -> None:
    shop = start_in_turn(DEPTH, prelude=prelude(group))
    first, mailer = start_in_turn(prelude=prelude(group)), start_in_turn(prelude=named(group, "mailer"))
    mailer.run("depth.set(3); hits.inc()")
    for gone in (first, mailer):  # a lower row is free then, too
        gone.end()
    assert shop.samples()['depth{worker="mailer"}'] == 3
    successor = start_in_turn(prelude=named(group, "mailer"))
    successor.run("depth.set(4); hits.inc()")
    assert shop.samples() == {'depth{worker="1"}': 0, 'depth{worker="mailer"}': 4, "hits_total": 2}
    successor.end()
    other = start_in_turn(DEPTH, prelude=prelude(group))
    other.run("depth.set(5)")
    assert shop.samples()['depth{worker="2"}'] == 5


def test_two_processes_do_not_have_the_same_name(start_in_turn: StartService, group: str) -> None:
    first, second = start_in_turn(prelude=named(group, "mailer")), start_in_turn(prelude=named(group, "mailer"))
    second.run("depth.set(2)")
    first.fork("child", "depth.set(3)")
    depths = {'depth{worker="mailer"}': 0, 'depth{worker="2"}': 2, 'depth{worker="3"}': 3}
    assert first.samples() == {**depths, "hits_total": 0}
    assert (first.log, second.log) == (
        "",
        "the label 'worker' of this process is a number: another one is called 'mailer'\n",
    )


def test_a_process_that_shares_metrics_already_can_be_named(start_in_turn: StartService, group: str) -> None:
    shop = start_in_turn(DEPTH, prelude=prelude(group))
    shop.fork("child", "depth.set(3); stator.share_metrics(worker='mailer')")
    assert shop.samples() == {'depth{worker="1"}': 0, 'depth{worker="mailer"}': 3, "hits_total": 0}


@pytest.mark.parametrize("name", ["", "7", "main", "a b", "ä", "x" * 49])
def test_a_worker_that_is_no_name_is_refused(name: str) -> None:
    expected = "expected a name of up to 48 letters, digits, dots, dashes and underscores, with a letter first"
    with pytest.raises(stator.ConfigError, match=f"worker='{name}': {expected}, other than main"):
        stator.share_metrics(worker=name)
