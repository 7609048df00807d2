"""Processes that name the same group share metrics, whatever they are and whoever started them."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

import stator
from tests.instrumentation.conftest import StartService
from tests.instrumentation.processes import LIBRARY
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
