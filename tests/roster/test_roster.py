"""The roster registers, stays registered and leaves, whatever the discovery service does."""

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
        services: Ids of what is registered now; to be changed with `forget` where somebody may wait for that.
        registrations: How often it was asked to register, in vain or not.
        looks: How often it was asked what is registered, in vain or not.
        departures: How often it was asked to unregister, in vain or not.
        error: What is raised.
        wrong: What is said to be wrong with what is registered.
        kept: For each registration, whether it was to keep what an operator has set.
        mark: Mark of what is seen; empty where it can't wait for a change.
        patient: Whether it waits for a change when it's asked to.
        open: While it is clear, the registry hangs.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.services: set[str] = set()
        self.registrations = self.departures = self.looks = 0
        self.error = error
        self.wrong = ""
        self.kept: list[bool] = []
        self.mark = "1"
        self.patient = True
        self.open = threading.Event()
        self.open.set()
        self._changed = threading.Event()
        self._woken = False

    def forget(self) -> None:
        """Loses everything, as an agent that restarts."""
        self.services.clear()
        self._changed.set()

    def fail(self, error: Exception | None) -> None:
        """Fails from now on, whoever waits too, or no longer."""
        self.error = error
        self._changed.set()

    def register(
        self, service: Service, *, keep: bool = True, timeout: float | None = None, level: str = "info"
    ) -> None:
        self.registrations += 1
        self.kept.append(keep)
        self._answer()
        self.services.add(service.id)

    def look(self, service: Service, *, since: str = "", wait: float = 0.0) -> Observation:
        self.looks += 1
        self._answer()
        if since and since == self.mark and self.patient and not self._woken:
            self._changed.wait(wait)
        self._changed.clear()
        self._answer()
        if self._woken:
            raise REFUSED
        return Observation(self.wrong, self.mark) if service.id in self.services else Observation("forgotten")

    def wake(self) -> None:
        self._woken = True
        self._changed.set()

    def close(self) -> None:
        self.closed = True

    def unregister(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        self.departures += 1
        self._answer()
        self.services.discard(service.id)

    def _answer(self) -> None:
        self.open.wait()
        if self.error:
            raise self.error


Enrols = Callable[..., Roster]


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.error = None
    made.open.set()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as made:
        yield made


@pytest.fixture
def enrols(registry: Registry, story: CapturedLog) -> Iterator[Enrols]:
    """Starts rosters, which are stopped in the end, on a clock that may run faster than the real one."""
    rosters: list[Roster] = []

    def enrol(
        registrar: Registrar | None = registry,
        find: Callable[[], Service] = lambda: SERVICE,
        *,
        serves: Callable[[], bool] = lambda: True,
        speed: float = 1,
        jitter: float = 0.5,
        **config: str,
    ) -> Roster:
        periods: dict[str, Any] = {name: Duration.parse(text) for name, text in config.items()}
        clock = lambda: time.monotonic() * speed  # noqa: E731
        roster = Roster(RosterConfig(**periods), registrar, find, serves, story.log, jitter=lambda: jitter, clock=clock)
        rosters.append(roster)
        roster.start()
        return roster

    yield enrol
    registry.error = None
    registry.open.set()
    for roster in rosters:
        leave(roster)
    for thread in threading.enumerate():
        if thread.name == "roster":  # one that was given up
            thread.join(5)


def leave(roster: Roster) -> float:
    """Stops a roster; gives the seconds that it took to leave."""
    start = time.monotonic()
    roster.stop()
    eventually(lambda: roster.left(0.01))
    return time.monotonic() - start


def test_registers_when_it_starts_and_unregisters_when_it_stops(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    roster = enrols()
    eventually(lambda: registry.services == {"stator-1"})
    assert leave(roster) < 1
    assert registry.services == set()
    assert [line["msg"] for line in story.lines] == ["worker starting", "registered", "unregistered", "worker stopped"]
    assert {line["service"] for line in story.lines if "service" in line} == {"stator-1"}
    assert len({line["worker_id"] for line in story.lines}) == 1


def test_registers_again_as_soon_as_it_is_forgotten(registry: Registry, enrols: Enrols, story: CapturedLog) -> None:
    enrols()
    eventually(lambda: story.lines_with("registered"))
    back: list[dict[str, Any]] = []
    while len(back) < 3:
        registry.forget()
        back = eventually(partial(more_told, story, "registered again", than=len(back)))
    assert registry.registrations == 4
    assert {line["reason"] for line in story.lines_with("registration lost")} == {"forgotten"}
    assert all(0 <= line["away_seconds"] < 1 for line in story.lines_with("registered again"))


def more_told(story: CapturedLog, msg: str, *, than: int) -> list[dict[str, Any]]:
    """Lines with a message as soon as there are more than so many."""
    lines = story.lines_with(msg)
    return lines if len(lines) > than else []


def test_what_is_wrong_is_put_right_and_what_an_operator_has_set_is_kept_only_at_first(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    enrols()
    eventually(lambda: story.lines_with("registered"))
    registry.wrong, registry.mark = "Tags differ", "2"
    registry.fail(None)
    eventually(lambda: registry.registrations >= 2)
    registry.wrong, registry.mark = "", "3"
    eventually(lambda: story.lines_with("registered again"))
    assert registry.kept[:2] == [True, False]
    assert story.lines_with("registration lost")[0]["reason"] == "Tags differ"


def test_whoever_is_wronged_again_and_again_takes_it_easy(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    registry.wrong = "Port is 1 instead of 8087"
    start = time.monotonic()
    enrols(jitter=1)
    eventually(lambda: registry.registrations == 7)
    # At once, and after nine tenths of 50, 100, 200, 400 and 800 ms
    assert time.monotonic() - start > 1.39
    assert len(story.lines_with("not registered, registering now")) == 1


def test_does_not_register_again_where_all_is_as_it_should_be(registry: Registry, enrols: Enrols) -> None:
    roster = enrols(interval="20ms")
    eventually(lambda: registry.looks >= 5)
    leave(roster)
    assert registry.registrations == 1


def test_what_does_not_serve_is_not_registered_until_it_does(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    serving = threading.Event()
    enrols(serves=serving.is_set, retry_max="10ms")
    eventually(lambda: story.lines_with("failed to register, trying again"))
    assert registry.registrations == 0
    serving.set()
    eventually(lambda: story.lines_with("registered"))
    serving.clear()
    registry.forget()
    eventually(lambda: registry.looks >= 5)
    assert registry.registrations == 1
    serving.set()
    eventually(lambda: story.lines_with("registered again"))


def test_an_outage_that_changed_nothing_needs_no_registration(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    enrols(retry_max="10ms")
    eventually(lambda: registry.looks >= 2)
    registry.fail(REFUSED)
    eventually(lambda: registry.looks >= 9)
    registry.fail(None)
    eventually(lambda: story.lines_with("registered again"))
    assert registry.registrations == 1
    (lost,) = story.lines_with("registration lost")
    assert (lost["level"], lost["reason"]) == ("warning", "connection refused")
    (back,) = story.lines_with("registered again")
    assert back["failures"] >= 5
    assert story.lines_with("failed to register, trying again") == []


def test_an_outage_of_many_reasons_costs_few_lines(registry: Registry, enrols: Enrols, story: CapturedLog) -> None:
    roster = enrols(retry_max="1ms")
    eventually(lambda: registry.looks >= 2)
    for number in range(20):
        registry.fail(RegistrarError(f"reason {number}"))
        looks = registry.looks
        while registry.looks < looks + 2:
            time.sleep(0.001)
    registry.error = None
    leave(roster)
    assert len([line for line in story.lines if line["level"] in ("warning", "error")]) <= 7


@pytest.mark.parametrize("mark", ["", "1"])
def test_a_registry_that_does_not_wait_is_not_asked_all_the_time(registry: Registry, enrols: Enrols, mark: str) -> None:
    registry.mark, registry.patient = mark, False
    enrols()
    eventually(lambda: registry.services)
    time.sleep(0.5)
    assert registry.looks <= 2


def test_a_registry_whose_mark_changes_all_the_time_is_not_asked_all_the_time(
    registry: Registry, enrols: Enrols
) -> None:
    enrols()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        registry.mark = str(time.monotonic())
        registry.fail(None)
        time.sleep(0.001)
    assert registry.looks <= 8


def test_tries_again_after_a_failure_and_tells_the_first_and_the_end(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    registry.error = REFUSED
    enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 5)
    registry.error = None
    eventually(lambda: story.lines_with("registered"))
    (failure,) = story.lines_with("failed to register, trying again")
    assert (failure["level"], failure["reason"]) == ("error", "connection refused")
    assert story.lines_with("registered")[0]["failures"] >= 5


def test_tells_when_a_failure_gets_another_reason(registry: Registry, enrols: Enrols, story: CapturedLog) -> None:
    registry.error = REFUSED
    enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 3)
    registry.error = RegistrarError("permission denied")
    reasons = eventually(lambda: [line["reason"] for line in story.lines_with("failed to register, trying again")][1:])
    assert reasons == ["permission denied"]


def test_waits_twice_as_long_after_each_failure_up_to_the_longest(registry: Registry, enrols: Enrols) -> None:
    registry.error = REFUSED
    start = time.monotonic()
    enrols(jitter=1, retry_max="200ms")
    eventually(lambda: registry.registrations == 6)
    # Nine tenths of 50, 100 and 200 ms, and of 200 ms more twice
    assert 0.67 < time.monotonic() - start < 2


@pytest.mark.parametrize("retry_max", ["1s", "1ns"])
def test_never_asks_without_a_pause(registry: Registry, enrols: Enrols, retry_max: str) -> None:
    registry.error = REFUSED
    start = time.monotonic()
    enrols(jitter=0, retry_max=retry_max)
    eventually(lambda: registry.registrations >= 40)
    assert time.monotonic() - start > 39 * 0.005


def test_an_error_that_nobody_foresaw_is_told_in_full_and_does_not_end_it(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    registry.error = ZeroDivisionError("oops")
    enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 3)
    registry.error = None
    eventually(lambda: registry.services)
    (failure,) = story.lines_with("failed to register, trying again")
    assert (failure["error"]["type"], failure["error"]["message"]) == ("ZeroDivisionError", "oops")
    assert "_answer" in failure["error"]["traceback"]


def test_looks_up_the_address_again_until_it_is_found(registry: Registry, enrols: Enrols, story: CapturedLog) -> None:
    tries = iter([OSError(101, "Network is unreachable"), OSError(101, "Network is unreachable")])

    def find() -> Service:
        if error := next(tries, None):
            raise error
        return SERVICE

    enrols(find=find, retry_max="10ms")
    eventually(lambda: registry.services)
    (failure,) = story.lines_with("failed to register, trying again")
    assert "Network is unreachable" in failure["reason"]


def test_leaves_at_once_where_it_was_about_to_try_again(registry: Registry, enrols: Enrols) -> None:
    registry.error = REFUSED
    roster = enrols(jitter=1, retry_max="1h")
    eventually(lambda: registry.registrations >= 4)
    assert leave(roster) < 1


def test_asks_only_once_to_leave_where_it_never_registered(
    registry: Registry, enrols: Enrols, story: CapturedLog
) -> None:
    registry.error = REFUSED
    roster = enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 2)
    assert leave(roster) < 1
    assert registry.departures == 1
    assert story.lines_with("failed to unregister")[0]["reason"] == "connection refused"


def test_what_failed_to_register_is_unregistered_all_the_same(registry: Registry, enrols: Enrols) -> None:
    registry.services.add("stator-1")  # registered indeed, but the answer got lost
    registry.error = REFUSED
    roster = enrols(retry_max="1h", jitter=1)
    eventually(lambda: registry.registrations)
    registry.error = None
    leave(roster)
    assert registry.services == set()


def test_does_not_ask_to_leave_where_it_never_had_an_address(registry: Registry, enrols: Enrols) -> None:
    def find() -> Service:
        raise OSError(101, "Network is unreachable")

    roster = enrols(find=find)
    leave(roster)
    assert registry.registrations == registry.departures == 0


def test_tries_to_leave_until_it_works(registry: Registry, enrols: Enrols, story: CapturedLog) -> None:
    roster = enrols(retry_max="10ms")
    eventually(lambda: registry.services)
    registry.error = REFUSED
    roster.stop()
    eventually(lambda: registry.departures >= 3)
    assert not roster.left(0)
    registry.error = None
    eventually(lambda: roster.left(0.01))
    assert registry.services == set()
    assert story.lines_with("unregistered")


def test_gives_up_leaving_after_a_while_and_says_so(registry: Registry, enrols: Enrols, story: CapturedLog) -> None:
    roster = enrols(speed=20, retry_max="10ms")
    eventually(lambda: registry.services)
    registry.error = ValueError("nonsense")
    assert 0.1 < leave(roster) < 2
    (failure,) = story.lines_with("failed to unregister")
    assert (failure["service"], failure["error"]["message"]) == ("stator-1", "nonsense")


@pytest.mark.parametrize("registered", [True, False])
def test_gives_up_leaving_where_the_discovery_service_hangs_and_says_so(
    registry: Registry, enrols: Enrols, story: CapturedLog, registered: bool
) -> None:
    if not registered:
        registry.open.clear()
    roster = enrols(speed=20)
    eventually(lambda: registry.registrations)
    if registered:
        eventually(lambda: registry.services)
        registry.open.clear()
    assert 0.1 < leave(roster) < 2
    (failure,) = story.lines_with("failed to unregister")
    assert failure["reason"] == "not done within 5.0 seconds"


def test_says_that_it_does_not_register_where_there_is_nothing_to_register_with(
    enrols: Enrols, story: CapturedLog
) -> None:
    roster = enrols(None)
    assert "STTR_CLIENT_BASEURI" in story.line["msg"]
    roster.stop()
    assert roster.left(0)


def test_leaves_at_once_where_it_never_started(registry: Registry, story: CapturedLog) -> None:
    roster = Roster(RosterConfig(), registry, lambda: SERVICE, lambda: True, story.log)
    roster.stop()
    assert roster.left(0)
    assert story.lines == []
