"""Whichever worker answers, it reports all processes."""

import re
import signal
from collections.abc import Iterator
from functools import partial

import pytest

from tests.program import Program, eventually
from tests.server.conftest import Starts

WORKERS = 4
SAMPLE = re.compile(
    r'^(pyrt_\w+)\{(?:.*,)?process_id="(\d+)",role="(\w+)"(?:,worker="(\d+)")?(?:,generation="(\d)")?.*\} (\S+)'
)


def samples(program: Program) -> dict[tuple[str, ...], float]:
    """Values by name, process id, role, worker and generation."""
    body = program.get("/metrics").body.decode()
    found = (SAMPLE.match(line) for line in body.splitlines())
    return {match.groups(default="")[:5]: float(match[6]) for match in found if match}


def seen(program: Program) -> dict[str, str]:
    """Process ids and roles."""
    return {key[1]: key[2] for key in samples(program)}


def running(program: Program) -> dict[str, str]:
    """Process ids and roles, as the system knows them."""
    workers = {str(each.pid): "worker" for each in program.workers}
    return workers | {str(program.arbiter.ppid()): "main", str(program.arbiter.pid): "arbiter"}


@pytest.fixture
def program(starts: Starts) -> Iterator[Program]:
    made = starts(
        {"STTR_SERVER_WORKERS": str(WORKERS), "STTR_COLLECTORS": "runtime,process", "STTR_METRICS_TIMESTAMPS": "never"}
    )
    made.wait_for("ready")
    eventually(lambda: len(made.workers) == WORKERS)
    yield made
    assert made.stop() == 0
    assert made.errors == ""


def test_each_answer_shows_all_processes_and_their_counters_only_go_up(program: Program) -> None:
    eventually(lambda: seen(program) == running(program))
    expected, before = running(program), samples(program)
    for _ in range(200):
        now = samples(program)
        assert {key[1]: key[2] for key in now} == expected
        assert {key[3] for key in now} == {"", "1", "2", "3", "4"}
        fallen = {key for key in before if "_total" in key[0] and now[key] < before[key]}
        assert not fallen
        before = now


def test_a_worker_that_is_killed_is_replaced_within_two_seconds_in_the_answer(program: Program) -> None:
    eventually(lambda: seen(program) == running(program))
    for _ in range(3):
        victim = program.workers[0]
        (number,) = {key[3] for key in samples(program) if key[1] == str(victim.pid)}
        victim.send_signal(signal.SIGKILL)
        replacement = eventually(partial(_of_number, program, number, str(victim.pid)), within=2.0)
        assert seen(program) == running(program)
        assert replacement in running(program)


def _of_number(program: Program, number: str, other_than: str) -> str | None:
    """The process id of a worker's number, once it's another and all are there."""
    pids = {key[1] for key in samples(program) if key[3] == number} - {other_than}
    return pids.pop() if pids and other_than not in seen(program) and len(seen(program)) == WORKERS + 2 else None


def test_the_cpu_time_of_the_service_goes_on_where_a_worker_is_killed(program: Program) -> None:
    def cpu() -> float:
        lines = program.get("/metrics").body.decode().splitlines()
        (line,) = (line for line in lines if line.startswith("process_cpu_seconds_total "))
        return float(line.split()[1])

    seconds = [cpu()]
    for _ in range(3):
        program.workers[0].send_signal(signal.SIGKILL)
        seconds += [cpu() for _ in range(50)]
    assert seconds == sorted(seconds)
