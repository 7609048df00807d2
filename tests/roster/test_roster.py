"""The roster registers, stays registered and unregisters, whatever the discovery service does."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stator.roster.registrar import Observation, Registrar, RegistrarError
from stator.roster.roster import Roster, RosterConfig
from stator.roster.service import Service
from stator.settings.duration import Duration
from tests.captured_log import CapturedLog
from tests.program import eventually

SERVICE = Service("stator-1", "stator", (), (), "127.0.0.1", 8087, "http://127.0.0.1:8087/monitor")
REFUSED = RegistrarError("connection refused")


class Registry:
    """A discovery service in memory, which fails while it holds an error.

    Attributes:
        services: Ids of what is registered now; `forget` changes them and wakes a blocked `observe`.
        registrations: Number of calls to `register`, whether they succeed or not.
        observations: Number of calls to `observe`, whether they succeed or not.
        departures: Number of calls to `unregister`, whether they succeed or not.
        error: What is raised.
        problem: The problem of each registration.
        kept: For each registration, whether existing checks were to be kept.
        version: Version of each observation; empty if it can't wait for a change.
        patient: Whether it waits for a change when it is asked to.
        open: While it is clear, the registry hangs.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.services: set[str] = set()
        self.registrations = self.departures = self.observations = 0
        self.error = error
        self.problem = ""
        self.kept: list[bool] = []
        self.version = "1"
        self.patient = True
        self.open = threading.Event()
        self.open.set()
        self._changed = threading.Event()
        self._cancelled = False

    def forget(self) -> None:
        """Loses everything, as an agent that restarts."""
        self.services.clear()
        self._changed.set()

    def fail(self, error: Exception | None) -> None:
        """Fails from now on, blocked calls too, or no longer."""
        self.error = error
        self._changed.set()

    def register(self, service: Service, *, keep_checks: bool = True, level: str = "info") -> None:
        self.registrations += 1
        self.kept.append(keep_checks)
        self._answer()
        self.services.add(service.id)

    def observe(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        self.observations += 1
        self._answer()
        if since and since == self.version and self.patient and not self._cancelled:
            self._changed.wait(wait)
        self._changed.clear()
        self._answer()
        if self._cancelled:
            raise REFUSED
        return Observation(self.problem, self.version) if service.id in self.services else Observation("forgotten")

    def cancel(self) -> None:
        self._cancelled = True
        self._changed.set()

    def close(self) -> None:
        self.closed = True

    def unregister(self, service: Service, *, timeout: float | None = None) -> None:
        self.departures += 1
        self._answer()
        self.services.discard(service.id)

    def _answer(self) -> None:
        self.open.wait()
        if self.error:
            raise self.error


StartRoster = Callable[..., Roster]


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.error = None
    registry.open.set()


@pytest.fixture
def captured(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def start_roster(registry: Registry, captured: CapturedLog) -> Iterator[StartRoster]:
    """Starts rosters, which are stopped in the end, on a clock that may run faster than the real one."""
    rosters: list[Roster] = []

    def start(
        registrar: Registrar | None = registry,
        find: Callable[[], Service] = lambda: SERVICE,
        *,
        is_serving: Callable[[], bool] = lambda: True,
        speed: float = 1,
        jitter: float = 0.5,
        **config: str,
    ) -> Roster:
        periods: dict[str, Any] = {name: Duration.parse(text) for name, text in config.items()}
        clock = lambda: time.monotonic() * speed  # noqa: E731
        roster = Roster(
            RosterConfig(**periods), registrar, find, is_serving, captured.log, jitter=lambda: jitter, clock=clock
        )
        rosters.append(roster)
        roster.start()
        return roster

    yield start
    registry.error = None
    registry.open.set()
    for roster in rosters:
        stop(roster)
    for thread in threading.enumerate():
        if thread.name == "roster":  # one that was given up
            thread.join(5)


def stop(roster: Roster) -> float:
    """Stops a roster; returns the seconds that it took."""
    start = time.monotonic()
    roster.stop()
    eventually(lambda: roster.wait_stopped(0.01))
    return time.monotonic() - start


def test_registers_when_it_starts_and_unregisters_when_it_stops(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    roster = start_roster()
    eventually(lambda: registry.services == {"stator-1"})
    assert stop(roster) < 1
    assert registry.services == set()
    assert [line["msg"] for line in captured.lines] == [
        "worker starting",
        "registered",
        "unregistered",
        "worker stopped",
    ]
    assert {line["service"] for line in captured.lines if "service" in line} == {"stator-1"}
    assert len({line["worker_id"] for line in captured.lines}) == 1


def test_registers_again_as_soon_as_it_is_forgotten(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    start_roster()
    eventually(lambda: captured.lines_with("registered"))
    back: list[dict[str, Any]] = []
    while len(back) < 3:
        registry.forget()
        back = eventually(partial(more_lines, captured, "registered again", than=len(back)))
    assert registry.registrations == 4
    assert {line["reason"] for line in captured.lines_with("registration lost")} == {"forgotten"}
    assert all(0 <= line["away_seconds"] < 1 for line in captured.lines_with("registered again"))


def more_lines(captured: CapturedLog, msg: str, *, than: int) -> list[dict[str, Any]]:
    """Lines with a message, if there are more than a number of them."""
    lines = captured.lines_with(msg)
    return lines if len(lines) > than else []


def test_a_problem_is_corrected_and_existing_checks_are_kept_only_at_first(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    start_roster()
    eventually(lambda: captured.lines_with("registered"))
    registry.problem, registry.version = "Tags differ", "2"
    registry.fail(None)
    eventually(lambda: registry.registrations >= 2)
    registry.problem, registry.version = "", "3"
    eventually(lambda: captured.lines_with("registered again"))
    assert registry.kept[:2] == [True, False]
    assert captured.lines_with("registration lost")[0]["reason"] == "Tags differ"


def test_a_problem_that_recurs_is_corrected_less_and_less_often(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    registry.problem = "Port is 1 instead of 8087"
    start = time.monotonic()
    start_roster(jitter=1)
    eventually(lambda: registry.registrations == 7)
    # At once, and after nine tenths of 50, 100, 200, 400 and 800 ms
    assert time.monotonic() - start > 1.39
    assert len(captured.lines_with("not registered, registering now")) == 1


def test_does_not_register_again_without_a_problem(registry: Registry, start_roster: StartRoster) -> None:
    roster = start_roster(interval="20ms")
    eventually(lambda: registry.observations >= 5)
    stop(roster)
    assert registry.registrations == 1


def test_a_service_that_does_not_answer_is_not_registered_until_it_does(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    serving = threading.Event()
    start_roster(is_serving=serving.is_set, retry_max="10ms")
    eventually(lambda: captured.lines_with("failed to register, trying again"))
    assert registry.registrations == 0
    serving.set()
    eventually(lambda: captured.lines_with("registered"))
    serving.clear()
    registry.forget()
    eventually(lambda: registry.observations >= 5)
    assert registry.registrations == 1
    serving.set()
    eventually(lambda: captured.lines_with("registered again"))


def test_an_outage_that_changed_nothing_needs_no_registration(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    start_roster(retry_max="10ms")
    eventually(lambda: registry.observations >= 2)
    registry.fail(REFUSED)
    eventually(lambda: registry.observations >= 9)
    registry.fail(None)
    eventually(lambda: captured.lines_with("registered again"))
    assert registry.registrations == 1
    (lost,) = captured.lines_with("registration lost")
    assert (lost["level"], lost["reason"]) == ("warning", "connection refused")
    (back,) = captured.lines_with("registered again")
    assert back["failures"] >= 5
    assert captured.lines_with("failed to register, trying again") == []


def test_an_outage_of_many_reasons_costs_few_lines(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    roster = start_roster(retry_max="1ms")
    eventually(lambda: registry.observations >= 2)
    for number in range(20):
        registry.fail(RegistrarError(f"reason {number}"))
        before = registry.observations
        while registry.observations < before + 2:
            time.sleep(0.001)
    registry.error = None
    stop(roster)
    assert len([line for line in captured.lines if line["level"] in ("warning", "error")]) <= 7


@pytest.mark.parametrize("version", ["", "1"])
def test_a_registry_that_does_not_wait_is_not_polled_all_the_time(
    registry: Registry, start_roster: StartRoster, version: str
) -> None:
    registry.version, registry.patient = version, False
    start_roster()
    eventually(lambda: registry.services)
    time.sleep(0.5)
    assert registry.observations <= 2


def test_a_registry_whose_version_changes_all_the_time_is_not_polled_all_the_time(
    registry: Registry, start_roster: StartRoster
) -> None:
    start_roster()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        registry.version = str(time.monotonic())
        registry.fail(None)
        time.sleep(0.001)
    assert registry.observations <= 8


def test_tries_again_after_a_failure_and_logs_the_first_and_the_end(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    registry.error = REFUSED
    start_roster(retry_max="10ms")
    eventually(lambda: registry.registrations >= 5)
    registry.error = None
    eventually(lambda: captured.lines_with("registered"))
    (failure,) = captured.lines_with("failed to register, trying again")
    assert (failure["level"], failure["reason"]) == ("error", "connection refused")
    assert captured.lines_with("registered")[0]["failures"] >= 5


def test_logs_when_the_reason_of_a_failure_changes(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    registry.error = REFUSED
    start_roster(retry_max="10ms")
    eventually(lambda: registry.registrations >= 3)
    registry.error = RegistrarError("permission denied")
    reasons = eventually(
        lambda: [line["reason"] for line in captured.lines_with("failed to register, trying again")][1:]
    )
    assert reasons == ["permission denied"]


def test_waits_twice_as_long_after_each_failure_up_to_the_longest(
    registry: Registry, start_roster: StartRoster
) -> None:
    registry.error = REFUSED
    start = time.monotonic()
    start_roster(jitter=1, retry_max="200ms")
    eventually(lambda: registry.registrations == 6)
    # Nine tenths of 50, 100 and 200 ms, and of 200 ms more twice
    assert 0.67 < time.monotonic() - start < 2


@pytest.mark.parametrize("retry_max", ["1s", "1ns"])
def test_never_retries_without_a_pause(registry: Registry, start_roster: StartRoster, retry_max: str) -> None:
    registry.error = REFUSED
    start = time.monotonic()
    start_roster(jitter=0, retry_max=retry_max)
    eventually(lambda: registry.registrations >= 40)
    assert time.monotonic() - start > 39 * 0.005


def test_an_unexpected_error_is_logged_with_its_traceback_and_does_not_end_it(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    registry.error = ZeroDivisionError("oops")
    start_roster(retry_max="10ms")
    eventually(lambda: registry.registrations >= 3)
    registry.error = None
    eventually(lambda: registry.services)
    (failure,) = captured.lines_with("failed to register, trying again")
    assert (failure["error"]["type"], failure["error"]["message"]) == ("ZeroDivisionError", "oops")
    assert "_answer" in failure["error"]["traceback"]


def test_looks_up_the_address_again_until_it_is_found(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    tries = iter([OSError(101, "Network is unreachable"), OSError(101, "Network is unreachable")])

    def find() -> Service:
        if error := next(tries, None):
            raise error
        return SERVICE

    start_roster(find=find, retry_max="10ms")
    eventually(lambda: registry.services)
    (failure,) = captured.lines_with("failed to register, trying again")
    assert "Network is unreachable" in failure["reason"]


def test_stops_at_once_if_it_was_about_to_try_again(registry: Registry, start_roster: StartRoster) -> None:
    registry.error = REFUSED
    roster = start_roster(jitter=1, retry_max="1h")
    eventually(lambda: registry.registrations >= 4)
    assert stop(roster) < 1


def test_unregisters_with_a_single_try_if_it_never_registered(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    registry.error = REFUSED
    roster = start_roster(retry_max="10ms")
    eventually(lambda: registry.registrations >= 2)
    assert stop(roster) < 1
    assert registry.departures == 1
    assert captured.lines_with("failed to unregister")[0]["reason"] == "connection refused"


def test_a_service_that_failed_to_register_is_unregistered_too(registry: Registry, start_roster: StartRoster) -> None:
    registry.services.add("stator-1")  # registered indeed, but the answer got lost
    registry.error = REFUSED
    roster = start_roster(retry_max="1h", jitter=1)
    eventually(lambda: registry.registrations)
    registry.error = None
    stop(roster)
    assert registry.services == set()


def test_does_not_unregister_without_an_address(registry: Registry, start_roster: StartRoster) -> None:
    def find() -> Service:
        raise OSError(101, "Network is unreachable")

    roster = start_roster(find=find)
    stop(roster)
    assert registry.registrations == registry.departures == 0


def test_tries_to_unregister_until_it_succeeds(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    roster = start_roster(retry_max="10ms")
    eventually(lambda: registry.services)
    registry.error = REFUSED
    roster.stop()
    eventually(lambda: registry.departures >= 3)
    assert not roster.wait_stopped(0)
    registry.error = None
    eventually(lambda: roster.wait_stopped(0.01))
    assert registry.services == set()
    assert captured.lines_with("unregistered")


def test_gives_up_unregistering_after_a_while_and_says_so(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog
) -> None:
    roster = start_roster(speed=20, retry_max="10ms")
    eventually(lambda: registry.services)
    registry.error = ValueError("nonsense")
    assert 0.1 < stop(roster) < 2
    (failure,) = captured.lines_with("failed to unregister")
    assert (failure["service"], failure["error"]["message"]) == ("stator-1", "nonsense")


@pytest.mark.parametrize("registered", [True, False])
def test_gives_up_unregistering_if_the_discovery_service_hangs_and_says_so(
    registry: Registry, start_roster: StartRoster, captured: CapturedLog, registered: bool
) -> None:
    if not registered:
        registry.open.clear()
    roster = start_roster(speed=20)
    eventually(lambda: registry.registrations)
    if registered:
        eventually(lambda: registry.services)
        registry.open.clear()
    assert 0.1 < stop(roster) < 2
    (failure,) = captured.lines_with("failed to unregister")
    assert failure["reason"] == "not done within 5.0 seconds"


def test_says_that_it_does_not_register_without_a_registrar(start_roster: StartRoster, captured: CapturedLog) -> None:
    roster = start_roster(None)
    assert "STTR_CLIENT_BASEURI" in captured.line["msg"]
    roster.stop()
    assert roster.wait_stopped(0)


def test_stops_at_once_if_it_never_started(registry: Registry, captured: CapturedLog) -> None:
    roster = Roster(RosterConfig(), registry, lambda: SERVICE, lambda: True, captured.log)
    roster.stop()
    assert roster.wait_stopped(0)
    assert captured.lines == []
