"""The roster registers, stays registered and leaves, whatever the discovery service does."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stator.launch.duration import Duration
from stator.roster.roster import Config, Registrar, Roster
from stator.roster.service import RegistrarError, Service
from tests.program import eventually
from tests.story import Story

SERVICE = Service("stator-1", "stator", (), (), "127.0.0.1", 8087, "http://127.0.0.1:8087/monitor")
REFUSED = RegistrarError("connection refused")


class Registry:
    """A discovery service in memory, which fails while it holds an error.

    Attributes:
        services: Ids of what is registered now.
        registrations: How often it was asked to register, in vain or not.
        departures: How often it was asked to unregister, in vain or not.
        error: What is raised.
        open: While it is clear, the registry hangs.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.services: set[str] = set()
        self.registrations = self.departures = 0
        self.error = error
        self.open = threading.Event()
        self.open.set()

    def register(self, service: Service, *, timeout: float | None = None, level: str = "info") -> None:
        self.registrations += 1
        self._answer()
        self.services.add(service.id)

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
def story(tmp_path: Path) -> Iterator[Story]:
    with Story(tmp_path / "log") as made:
        yield made


@pytest.fixture
def enrols(registry: Registry, story: Story) -> Iterator[Enrols]:
    """Starts rosters, which are stopped in the end, on a clock that may run faster than the real one."""
    rosters: list[Roster] = []

    def enrol(
        registrar: Registrar | None = registry,
        find: Callable[[], Service] = lambda: SERVICE,
        *,
        speed: float = 1,
        jitter: float = 0.5,
        **config: str,
    ) -> Roster:
        periods: dict[str, Any] = {name: Duration.parse(text) for name, text in config.items()}
        clock = lambda: time.monotonic() * speed  # noqa: E731
        roster = Roster(Config(**periods), registrar, find, story.log, jitter=lambda: jitter, clock=clock)
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
    registry: Registry, enrols: Enrols, story: Story
) -> None:
    roster = enrols()
    eventually(lambda: registry.services == {"stator-1"})
    assert leave(roster) < 1
    assert registry.services == set()
    assert [line["msg"] for line in story.lines] == ["worker starting", "registered", "unregistered", "worker stopped"]
    assert {line["service"] for line in story.lines if "service" in line} == {"stator-1"}
    assert len({line["worker_id"] for line in story.lines}) == 1


def test_registers_again_every_interval(registry: Registry, enrols: Enrols) -> None:
    enrols(interval="20ms")
    eventually(lambda: registry.registrations >= 3)


def test_does_not_register_again_before_the_interval_is_over(registry: Registry, enrols: Enrols) -> None:
    roster = enrols(interval="1h")
    eventually(lambda: registry.services)
    leave(roster)
    assert registry.registrations == 1


def test_tries_again_after_a_failure_and_tells_the_first_and_the_end(
    registry: Registry, enrols: Enrols, story: Story
) -> None:
    registry.error = REFUSED
    enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 5)
    registry.error = None
    eventually(lambda: story.told("registered"))
    (failure,) = story.told("failed to register, trying again")
    assert (failure["level"], failure["reason"]) == ("error", "connection refused")
    assert story.told("registered")[0]["failures"] >= 5


def test_tells_when_a_failure_gets_another_reason(registry: Registry, enrols: Enrols, story: Story) -> None:
    registry.error = REFUSED
    enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 3)
    registry.error = RegistrarError("permission denied")
    reasons = eventually(lambda: [line["reason"] for line in story.told("failed to register, trying again")][1:])
    assert reasons == ["permission denied"]


def test_waits_twice_as_long_after_each_failure_up_to_the_longest(registry: Registry, enrols: Enrols) -> None:
    registry.error = REFUSED
    start = time.monotonic()
    enrols(jitter=1, retry_max="200ms")
    eventually(lambda: registry.registrations == 6)
    # 50, 100 and 200 ms, and 200 ms more twice
    assert 0.75 < time.monotonic() - start < 2


@pytest.mark.parametrize("retry_max", ["1s", "1ns"])
def test_never_asks_without_a_pause(registry: Registry, enrols: Enrols, retry_max: str) -> None:
    registry.error = REFUSED
    start = time.monotonic()
    enrols(jitter=0, retry_max=retry_max)
    eventually(lambda: registry.registrations >= 40)
    assert time.monotonic() - start > 39 * 0.005


def test_an_error_that_nobody_foresaw_is_told_in_full_and_does_not_end_it(
    registry: Registry, enrols: Enrols, story: Story
) -> None:
    registry.error = ZeroDivisionError("oops")
    enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 3)
    registry.error = None
    eventually(lambda: registry.services)
    (failure,) = story.told("failed to register, trying again")
    assert (failure["error"]["type"], failure["error"]["message"]) == ("ZeroDivisionError", "oops")
    assert "_answer" in failure["error"]["traceback"]


def test_looks_up_the_address_again_until_it_is_found(registry: Registry, enrols: Enrols, story: Story) -> None:
    tries = iter([OSError(101, "Network is unreachable"), OSError(101, "Network is unreachable")])

    def find() -> Service:
        if error := next(tries, None):
            raise error
        return SERVICE

    enrols(find=find, retry_max="10ms")
    eventually(lambda: registry.services)
    (failure,) = story.told("failed to register, trying again")
    assert "Network is unreachable" in failure["reason"]


def test_leaves_at_once_where_it_was_about_to_try_again(registry: Registry, enrols: Enrols) -> None:
    registry.error = REFUSED
    roster = enrols(jitter=1, retry_max="1h")
    eventually(lambda: registry.registrations >= 4)
    assert leave(roster) < 1


def test_asks_only_once_to_leave_where_it_never_registered(registry: Registry, enrols: Enrols, story: Story) -> None:
    registry.error = REFUSED
    roster = enrols(retry_max="10ms")
    eventually(lambda: registry.registrations >= 2)
    assert leave(roster) < 1
    assert registry.departures == 1
    assert story.told("failed to unregister")[0]["reason"] == "connection refused"


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


def test_tries_to_leave_until_it_works(registry: Registry, enrols: Enrols, story: Story) -> None:
    roster = enrols(retry_max="10ms")
    eventually(lambda: registry.services)
    registry.error = REFUSED
    roster.stop()
    eventually(lambda: registry.departures >= 3)
    assert not roster.left(0)
    registry.error = None
    eventually(lambda: roster.left(0.01))
    assert registry.services == set()
    assert story.told("unregistered")


def test_gives_up_leaving_after_a_while_and_says_so(registry: Registry, enrols: Enrols, story: Story) -> None:
    roster = enrols(speed=20, retry_max="10ms")
    eventually(lambda: registry.services)
    registry.error = ValueError("nonsense")
    assert 0.1 < leave(roster) < 2
    (failure,) = story.told("failed to unregister")
    assert (failure["service"], failure["error"]["message"]) == ("stator-1", "nonsense")


@pytest.mark.parametrize("registered", [True, False])
def test_gives_up_leaving_where_the_discovery_service_hangs_and_says_so(
    registry: Registry, enrols: Enrols, story: Story, registered: bool
) -> None:
    if not registered:
        registry.open.clear()
    roster = enrols(speed=20)
    eventually(lambda: registry.registrations)
    if registered:
        eventually(lambda: registry.services)
        registry.open.clear()
    assert 0.1 < leave(roster) < 2
    (failure,) = story.told("failed to unregister")
    assert failure["reason"] == "not done within 5.0 seconds"


def test_says_that_it_does_not_register_where_there_is_nothing_to_register_with(enrols: Enrols, story: Story) -> None:
    roster = enrols(None)
    assert "STTR_CLIENT_BASEURI" in story.line["msg"]
    roster.stop()
    assert roster.left(0)


def test_leaves_at_once_where_it_never_started(registry: Registry, story: Story) -> None:
    roster = Roster(Config(), registry, lambda: SERVICE, story.log)
    roster.stop()
    assert roster.left(0)
    assert story.lines == []
