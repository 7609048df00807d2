"""The state of a registration: its changes are logged, and its metrics exposed."""

import time
from collections.abc import Callable, Iterator
from mmap import mmap
from typing import Literal, NamedTuple, TypeAlias

from stator.log.changes import error_fields
from stator.log.logger import Log
from stator.log.render import safely
from stator.points import MetricType, Point, PointsAt
from stator.processes.shared_table import SharedTable
from stator.roster.registrar import REASONS, RegistrarError

_COLUMNS = 5 + len(REASONS)
SIZE = SharedTable.size(1, _COLUMNS)  # bytes of the memory that the numbers take


State: TypeAlias = Literal["registered", "not registered", "unregistered"]
"""``unregistered`` is a service that will stop."""


class Registration(NamedTuple):
    """The state of a registration, and when it was last confirmed, in Unix time; 0: never."""

    state: State
    confirmed: float


class RosterMetrics:
    """The state of the registration: the roster's thread reports events, any process collects the metrics."""

    # The numbers are in shared memory: create this before the processes fork, or pass `SIZE` bytes that they share.
    def __init__(
        self,
        log: Log,
        *,
        memory: mmap | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        report: Callable[[str], object] | None = None,
    ) -> None:
        self._log, self._now, self._clock, self._report = log, now, clock, report
        self._reported = ""
        self._table = SharedTable(1, _COLUMNS, memory)
        self._is_draining = False
        self._confirmed_at = 0.0
        self._registrations = self._recoveries = 0
        self._failures = dict.fromkeys(REASONS, 0)
        self._is_registered = False
        self._lost_at: float | None = None
        self._tries = 0  # since the registration was last confirmed, as is `_logged`
        self._logged: set[str] = set()

    def accepted(self) -> None:
        """The discovery service accepted a registration."""
        self._registrations += 1
        self._share()

    def confirmed(self, service_id: str) -> None:
        """The discovery service reports the registration as it should be."""
        if self._lost_at is not None:
            self._recoveries += 1
            away = round(self._clock() - self._lost_at, 3)
            self._log.info("registered again", service=service_id, away_seconds=away, failures=self._tries)
        elif not self._is_registered:
            self._log.info("registered", service=service_id, failures=self._tries)
        self.report(f"registered as {service_id}")
        self._is_registered, self._lost_at, self._confirmed_at = True, None, self._now()
        self._tries = 0
        self._logged.clear()
        self._share()

    def out_of_sync(self, problem: str) -> None:
        """The discovery service reports no registration, or one that differs."""
        self.report(f"not registered: {problem}")
        if self._deserves_line(problem, {"reason": problem}):
            self._log.warning("not registered, registering now", reason=problem)

    def failed(self, error: Exception) -> None:
        """A registration or an observation failed."""
        self._failures[error.reason if isinstance(error, RegistrarError) else "other"] += 1
        self.report(f"not registered: {safely(str, error) or type(error).__name__}")
        fields = error_fields(error, RegistrarError)
        if self._deserves_line(str(safely(str, error)), fields):
            self._log.error("failed to register, trying again", **fields)
        self._tries += 1
        self._share()

    def stopped(self) -> None:
        """The roster stops: the service is, or soon will be, unregistered."""
        self.report("unregistering")
        self._is_registered = False
        self._share()

    def drains(self) -> None:
        """The service is unregistered, and will stop."""
        self._is_draining = True
        self._share()

    def report(self, status: str) -> None:
        """Reports the state in words to whoever wants to know it, unless it has been reported."""
        if self._report is not None and status != self._reported:
            self._reported = status
            self._report(status)

    def is_draining(self) -> bool:
        """Returns whether the service is unregistered and will stop, the same in every process."""
        return bool(self._table.read(0)[4])

    def registration(self) -> Registration:
        """Returns the state of the registration, the same in every process."""
        registered, confirmed, _, _, is_draining, *_ = self._table.read(0)
        return Registration(
            "unregistered" if is_draining else "registered" if registered else "not registered", confirmed
        )

    def is_nonblocking(self) -> bool:
        """Returns True: the numbers are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """Returns the metrics, the same in every process."""
        return PointsAt("stator_roster", now, points=list(_points(self._table.read(0))))

    def _deserves_line(self, reason: str, fields: dict[str, object]) -> bool:
        """Logs the loss of a registration, if there was one; else returns whether to log the reason."""
        # One outage logs five lines at most, however many reasons it has.
        is_new = not self._is_registered and reason not in self._logged and len(self._logged) < 5
        if self._is_registered:
            self._is_registered, self._lost_at = False, self._clock()
            self._log.warning("registration lost", **fields)
            self._share()
        self._logged.add(reason)
        return is_new

    def _share(self) -> None:
        numbers = (self._is_registered, self._confirmed_at, self._registrations, self._recoveries, self._is_draining)
        self._table.write(0, (*numbers, *self._failures.values()))


def _points(numbers: tuple[float, ...]) -> Iterator[Point]:
    registered, confirmed, registrations, recoveries, _, *failures = numbers
    yield _point("registered", "Whether the service is registered, as last observed", "gauge", registered)
    desc = "When the registration was last confirmed, in Unix time; 0: never"
    yield _point("last_confirmed_timestamp", desc, "gauge", confirmed, unit="seconds")
    yield _point("registrations", "Registrations that were accepted", "counter", registrations)
    yield _point("recoveries", "Lost registrations that were restored", "counter", recoveries)
    for reason, number in zip(REASONS, failures, strict=True):
        desc = "Failures to register, or to observe the registration"
        yield _point("failures", desc, "counter", number, ("reason", reason))


def _point(name: str, desc: str, type_: MetricType, value: float, *labels: tuple[str, str], unit: str = "") -> Point:
    # All but the time are whole numbers.
    return Point(name, desc, value if unit else int(value), type=type_, unit=unit, labels=labels)
