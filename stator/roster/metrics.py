"""What becomes of a registration: told in the log at each change, and shown as metrics.

The roster lives in the main process, scrapes are answered in others: the numbers are in memory that all share.
"""

import time
from collections.abc import Callable, Iterator

from stator.log.logger import Log
from stator.points import MetricType, Point, PointsAt
from stator.processes.shared_table import SharedTable
from stator.roster.registrar import REASONS, Reason, RegistrarError

# Lines that the reasons of one outage may cost.
MOST_TOLD = 5


class RosterMetrics:
    """The roster's state; the roster's thread tells it what happens, any process collects it.

    To be made before the processes part.

    Args:
        log: Where the story is told.
        now: Unix time in seconds.
        clock: Seconds that only go up.
    """

    def __init__(
        self, log: Log, *, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._now, self._clock = log, now, clock
        self._table = SharedTable(1, 4 + len(REASONS))
        self._confirmed_at = 0.0
        self._registrations = self._recoveries = 0
        self._failures = dict.fromkeys(REASONS, 0)
        self._is_registered = False
        self._lost_at: float | None = None
        # Since the service was last seen registered.
        self._tries = 0
        self._told: set[str] = set()

    def sent(self) -> None:
        """A registration was accepted."""
        self._registrations += 1
        self._share()

    def confirmed(self, service_id: str) -> None:
        """The service was seen registered, as it should be."""
        if self._lost_at is not None:
            self._recoveries += 1
            away = round(self._clock() - self._lost_at, 3)
            self._log.info("registered again", service=service_id, away_seconds=away, failures=self._tries)
        elif not self._is_registered:
            self._log.info("registered", service=service_id, failures=self._tries)
        self._is_registered, self._lost_at, self._confirmed_at = True, None, self._now()
        self._tries = 0
        self._told.clear()
        self._share()

    def missed(self, wrong: str) -> None:
        """The service was seen, but not as it should be."""
        if self._is_news(wrong, {"reason": wrong}):
            self._log.warning("not registered, registering now", reason=wrong)

    def failed(self, error: Exception) -> None:
        """It was not to be learned how the service is registered, or to be changed."""
        self._failures[reason_of(error)] += 1
        if self._is_news(str(error), why(error)):
            self._log.error("failed to register, trying again", **why(error))
        self._tries += 1
        self._share()

    def left(self) -> None:
        """The service is, or may be, no longer registered: we are leaving."""
        self._is_registered = False
        self._share()

    def is_nonblocking(self) -> bool:
        """They are in memory."""
        return True

    def collect(self, now: float) -> PointsAt:
        """The numbers as they are, whichever process asks."""
        return PointsAt("stator_roster", now, points=list(_points(self._table.read(0))))

    def _is_news(self, reason: str, fields: dict[str, object]) -> bool:
        """Begins an outage, and tells that; in one that has begun, whether a reason deserves another line."""
        is_news = not self._is_registered and reason not in self._told and len(self._told) < MOST_TOLD
        if self._is_registered:
            self._is_registered, self._lost_at = False, self._clock()
            self._log.warning("registration lost", **fields)
            self._share()
        self._told.add(reason)
        return is_news

    def _share(self) -> None:
        numbers = (self._is_registered, self._confirmed_at, self._registrations, self._recoveries)
        self._table.write(0, (*numbers, *self._failures.values()))


def reason_of(error: Exception) -> Reason:
    """What a failure is counted as."""
    return error.reason if isinstance(error, RegistrarError) else "other"


def why(error: Exception) -> dict[str, object]:
    """What the log is told of a failure: the reason, or where nobody foresaw it, all."""
    return {"reason": str(error)} if isinstance(error, RegistrarError) else {"error": error}


def _points(numbers: tuple[float, ...]) -> Iterator[Point]:
    registered, confirmed, registrations, recoveries, *failures = numbers
    yield _point("registered", "Whether the service is known to be registered", "gauge", registered)
    desc = "When the registration was last seen to be as it should be, in Unix time; 0: never"
    yield _point("last_confirmed_timestamp", desc, "gauge", confirmed, unit="seconds")
    yield _point("registrations", "Registrations that were accepted", "counter", registrations)
    yield _point("recoveries", "Times that a lost registration came back", "counter", recoveries)
    for reason, number in zip(REASONS, failures, strict=True):
        desc = "Failures to register, or to learn whether the service is registered"
        yield _point("failures", desc, "counter", number, ("reason", reason))


def _point(name: str, desc: str, type_: MetricType, value: float, *labels: tuple[str, str], unit: str = "") -> Point:
    # All but the time are whole numbers.
    return Point(name, desc, value if unit else int(value), type=type_, unit=unit, labels=labels)
